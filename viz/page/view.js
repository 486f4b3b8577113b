// view.js: the drawing of a graph: boxes, frames and lines as SVG; moving about in it.

const FONT = {label: '600 12px system-ui, sans-serif', small: '10.5px system-ui, sans-serif',
              title: '600 12.5px system-ui, sans-serif'};
const INK_DERIVED = data.kinds[kindNamed('derived')][2];

const DERIVED_ROLES = new Set([1, 2, 4]);  // gradient, inverse, computed again
const opsText = (n) => `${count(n)} op${n === 1 ? '' : 's'}`;

class View {
  // `derived`: show what was derived as well. `onselect` is told what is selected.
  constructor(graph, derived, onselect) {
    Object.assign(this, {graph, derived, onselect});
    this.options = {fold: true, views: false, derived};
    this.selected = null;  // {node} or {group}
    this.open = new Set();
    this.layers = svg('g');
    this.element = svg('svg', {class: 'drawing', tabindex: 0, role: 'img',
                               'aria-label': 'graph'}, this.layers);
    this.transform = {x: 0, y: 0, k: 1};
    this.listen();
  }

  // What is open at first: the outermost scopes, as far as that stays small.
  start() {
    this.folding = new Folding(this.graph, this.options);
    const all = this.graph.children[0].filter((g) => !this.folding.hidden[g]);
    for (const g of all)
      if (this.graph.group(g, GROUP.PATH) === 0) this.open.add(g);
    for (let level = 0, most = 40; level < 1; level++, most += 40) {
      const more = this.visibleClosed();
      const items = more.reduce((n, g) => n + this.itemsIn(g), 0);
      if (items > most) break;
      more.forEach((g) => this.open.add(g));
    }
    this.build();
    this.started = true;
  }

  visibleClosed() {
    const list = [];
    const visit = (g) => {
      for (const child of this.graph.children[g]) {
        if (this.folding.hidden[child]) continue;
        if (this.open.has(child)) visit(child);
        else list.push(child);
      }
    };
    visit(0);
    return list;
  }

  itemsIn(g) {
    return this.graph.own[g] +
           this.graph.children[g].filter((child) => !this.folding.hidden[child]).length;
  }

  // ---- drawing ----

  build() {
    this.scene = new Scene(this.graph, this.folding, this.open);
    for (const container of this.scene.containers) {
      container.titleWidth = textWidth(this.frameTitle(container.group), FONT.title) + 26;
      for (const item of container.items) this.measure(item);
    }
    layOut(this.scene);
    this.draw();
    this.mark();
  }

  lines(item) {
    const {graph} = this;
    if (item.kind === 'node')
      return [text(graph.label[item.node]), text(graph.type[item.node]).replace(/^f32 /, '')];
    const sum = graph.sums[item.group];
    const each = this.folding.repeats(item.group) > 1 ? ' each' : '';
    const parameters = sum.parameters > 0 ? `, ${count(sum.parameters)} parameters` : '';
    return [this.closedTitle(item.group), opsText(sum.ops) + parameters + each];
  }

  // "layer0..5 × 6"
  closedTitle(g) {
    const repeats = this.folding.repeats(g);
    const name = this.graph.groupName(g);
    if (repeats === 1) return name;
    const last = text(this.graph.group(g, GROUP.HIGH)).match(/\d+$/);
    return `${name}..${last ? last[0] : ''} × ${repeats}`;
  }

  frameTitle(g) { return this.closedTitle(g); }

  measure(item) {
    if (item.kind === 'open') return;
    const most = 260;
    item.lines = this.lines(item);
    const fonts = [FONT.label, FONT.small];
    item.lines = item.lines.map((line, k) => shorten(line, fonts[k], most));
    if (item.kind === 'node' && item.lines[0] === '' ) item.lines[0] = '(no name)';
    const widest = Math.max(...item.lines.map((line, k) => textWidth(line, fonts[k])));
    item.w = Math.ceil(widest) + (item.kind === 'closed' ? 40 : 20);
    item.h = item.kind === 'closed' ? 44 : 38;
  }

  draw() {
    const frames = svg('g');
    const lines = svg('g', {class: 'lines'});
    const boxes = svg('g');
    for (const container of this.scene.containers) {
      if (container.parent) frames.append(this.drawFrame(container));
      for (const net of container.nets.values()) lines.append(...this.drawNet(container, net));
      for (const item of container.items)
        if (item.kind !== 'open') boxes.append(this.drawBox(item));
    }
    this.overlay = svg('g', {class: 'overlay'});
    this.layers.replaceChildren(frames, lines, this.overlay, boxes);
  }

  isDerived(item) {
    if (item.kind === 'node') return DERIVED_ROLES.has(this.graph.role[item.node]);
    return Boolean(this.graph.group(item.group, GROUP.DERIVED));
  }

  drawFrame(container) {
    const level = Math.min(container.depth, 5);
    const {px, py, w, h, group} = container;
    const title = this.frameTitle(group);
    container.element = svg('g', {
      class: `frame level${level}` + (this.isDerived(container) ? ' derived' : ''),
      'data-group': group, transform: `translate(${px} ${py})`,
    }, svg('rect', {class: 'back', width: w, height: h, rx: 8}),
    svg('g', {class: 'head', onclick: () => this.toggle(group)},
        svg('title', {}, `close ${this.graph.groupPath(group)}`),
        svg('rect', {class: 'title', x: 6, y: 5, width: container.titleWidth - 6, height: 20,
                     rx: 5}),
        svg('text', {class: 'sign', x: 13, y: 19.5}, '−'),
        svg('text', {class: 'name', x: 26, y: 19.5}, title)));
    return container.element;
  }

  drawBox(item) {
    const closed = item.kind === 'closed';
    const kind = closed ? KIND_CLOSED : this.graph.kind(item.node);
    const [, colour, border] = data.kinds[kind];
    const ink = this.isDerived(item) ? INK_DERIVED : border;
    const {px, py, w, h} = item;
    const box = svg('g', {
      class: closed ? 'box closed' : 'box', transform: `translate(${px} ${py})`,
      'data-node': closed ? null : item.node, 'data-group': closed ? item.group : null,
      onclick: () => (closed ? this.toggle(item.group) : this.select({node: item.node})),
    });
    if (closed && this.folding.repeats(item.group) > 1)
      box.append(svg('rect', {x: 4, y: 4, width: w, height: h, rx: 6, fill: colour, stroke: ink}));
    box.append(svg('rect', {width: w, height: h, rx: 6, fill: colour, stroke: ink,
                            'stroke-width': closed ? 1.6 : 1}));
    if (closed) box.append(svg('text', {class: 'sign', x: 10, y: 19}, '+'));
    const middle = closed ? w / 2 + 5 : w / 2;
    box.append(svg('text', {class: 'label', x: middle, y: closed ? 19 : 16}, item.lines[0]),
               svg('text', {class: 'small', x: middle, y: closed ? 34 : 30}, item.lines[1]));
    if (item.toNext) box.append(svg('text', {class: 'hand', x: w + 5, y: h}, '↷'));
    if (item.fromPrevious) box.append(svg('text', {class: 'hand', x: w + 5, y: 10}, '⤷'));
    item.element = box;
    return box;
  }

  // Lines of one net in one container; a triangle at each end that is a box.
  drawNet(container, net) {
    const {px, py} = container;
    const parts = new Set();
    let heads = '';
    for (const arc of net.arcs || []) {
      const points = container.layering.points(arc);
      for (let k = 0; k + 1 < points.length; k += 2)
        parts.add(lineThrough(points.slice(k, k + 3), px, py));  // what arcs share is drawn once
      detours(arc, px, py).forEach((detour) => parts.add(detour));
      const {turned} = arc;
      const end = turned ? arc.from : arc.to;
      if (end.item.kind === 'port') continue;
      const [x, y] = turned ? points[0] : points[points.length - 1];
      const tip = turned ? 5 : -5;
      heads += `M${x + px} ${y + py}l-3.2 ${tip}h6.4z`;
    }
    const tensors = [...net.tensors];
    const types = [...new Set(tensors.map((i) => text(this.graph.type[i])))];
    const title = (tensors.length > 1 ? `${tensors.length} tensors: ` : '') +
                  types.slice(0, 6).join(', ') + (types.length > 6 ? ', …' : '');
    return [svg('path', {class: 'line', d: [...parts].join('')}, svg('title', {}, title)),
            svg('path', {class: 'head', d: heads})];
  }

  // ---- opening and closing ----

  // Open or close a scope; it stays where it is on the screen.
  toggle(g) {
    if (this.moved) return;
    const before = this.placeOf(g);
    if (this.open.has(g)) this.open.delete(g);
    else this.open.add(g);
    this.build();
    this.stay(g, before);
    this.select({group: g});
  }

  placeOf(g) {
    const cell = this.scene.groupCell.get(g);
    const {x, y, k} = this.transform;
    return cell && cell.px !== undefined ? [cell.px * k + x, cell.py * k + y] : null;
  }

  stay(g, before) {
    const cell = this.scene.groupCell.get(g);
    if (!cell || !before) return;
    const {k} = this.transform;
    this.transform.x = before[0] - cell.px * k;
    this.transform.y = before[1] - cell.py * k;
    this.move();
    const {width, height} = this.element.getBoundingClientRect();
    const [x, y] = this.placeOf(g);
    const outside = x < 0 || y < 0 || x + cell.w * k > width || y + cell.h * k > height;
    if (outside && cell.kind === 'open') this.fit(cell);
  }

  // fold: layers that are alike once; views: boxes for rows that only rename bytes.
  setOption(name, value) {
    this.options[name] = value;
    this.folding = new Folding(this.graph, this.options);
    this.build();
    this.begin();
  }

  openInside(g) {
    const limit = 600;  // boxes; more is neither quick nor readable
    let items = 0;
    const visit = (at) => {
      if (items > limit) return;
      this.open.add(at);
      items += this.itemsIn(at);
      for (const child of this.graph.children[at])
        if (!this.folding.hidden[child]) visit(child);
    };
    visit(g);
    this.build();
    this.fit(this.scene.groupCell.get(g));
    this.select({group: g});
  }

  closeAll() {
    this.open.clear();
    for (const g of this.graph.children[0])
      if (this.graph.group(g, GROUP.PATH) === 0) this.open.add(g);
    this.build();
    this.begin();
  }

  // ---- selection ----

  // The cell that stands for what is selected; a node of a folded scope has that of its like.
  cellOf(what) {
    if (!what) return null;
    if ('node' in what) {
      const drawn = this.folding.same[what.node];
      return this.folding.hidden[this.graph.groupOf[drawn]] ? null : this.scene.cellOf(drawn);
    }
    let g = what.group;
    while (this.folding.folded[g]) {
      let outer = g;
      while (this.folding.alike[outer] === outer) outer = this.graph.group(outer, GROUP.PARENT);
      if (outer !== g) return null;
      g = this.folding.alike[g];
    }
    return this.scene.groupCell.get(g) || null;
  }

  select(what) {
    if (this.moved) return;
    this.selected = what;
    this.mark();
    this.onselect(what);
  }

  mark() {
    for (const element of this.layers.querySelectorAll('.selected, .near'))
      element.classList.remove('selected', 'near');
    this.overlay.replaceChildren();
    const cell = this.cellOf(this.selected);
    if (!cell || !cell.element) return;
    cell.element.classList.add('selected');
    for (const edge of this.scene.edges.values()) {
      if (edge.from !== cell && edge.to !== cell) continue;
      const other = edge.from === cell ? edge.to : edge.from;
      if (other.element) other.element.classList.add('near');
      const way = edge.to === cell ? 'line in' : 'line out';
      for (const {container, net, to} of edge.pieces) {
        const vertex = container.layering.vertexOf.get(to);
        const arc = (net.arcs || []).find((a) => (a.turned ? a.from : a.to) === vertex);
        if (!arc) continue;
        const points = container.layering.points(arc);
        this.overlay.append(
            svg('path', {class: way, d: lineThrough(points, container.px, container.py) +
                                        detours(arc, container.px, container.py).join('')}));
      }
    }
  }

  // Open what is around a node or scope, select it and bring it to the middle.
  reveal(what) {
    let g = 'node' in what ? this.graph.groupOf[this.folding.same[what.node]]
                           : this.graph.group(what.group, GROUP.PARENT);
    if ('group' in what && this.folding.folded[what.group]) {
      this.setOption('fold', false);
      this.onoption();
    }
    let changed = false;
    for (; g > 0; g = this.graph.group(g, GROUP.PARENT)) {
      changed = changed || !this.open.has(g);
      this.open.add(g);
    }
    if (changed) this.build();
    this.select(what);
    const cell = this.cellOf(what);
    if (cell) this.center(cell);
  }

  // ---- moving ----

  move() {
    const {x, y, k} = this.transform;
    this.layers.setAttribute('transform', `translate(${x} ${y}) scale(${k})`);
  }

  fit(cell) {
    const {width, height} = this.element.getBoundingClientRect();
    const of = cell || this.scene.root;
    if (width === 0 || !of.w) return;
    const margin = 24;
    const k = Math.min((width - 2 * margin) / of.w, (height - 2 * margin) / of.h, 1.1);
    this.transform.k = Math.max(k, cell ? 0.35 : 0.02);
    const room = this.transform.k * of.w;
    this.transform.x = (room < width ? (width - room) / 2 : margin) - of.px * this.transform.k;
    const tall = this.transform.k * of.h;
    this.transform.y = (tall < height ? (height - tall) / 2 : margin) - of.py * this.transform.k;
    this.move();
  }

  // Everything if it can be read then, else the top of it.
  begin() {
    this.fit(null);
    const {width, height} = this.element.getBoundingClientRect();
    const least = 0.62;
    if (this.transform.k >= least || width === 0) return;
    const {root} = this.scene;
    const narrow = root.w * least < width;
    this.transform = {k: least, x: narrow ? (width - root.w * least) / 2 : this.top(least, width),
                      y: root.h * least < height ? (height - root.h * least) / 2 : 8};
    this.move();
  }

  // Where a wide drawing's first rank is in the middle.
  top(k, width) {
    const first = this.scene.root.layering.ranks[0] || [];
    const middle = first.reduce((sum, vertex) => sum + vertex.x, 0) / Math.max(1, first.length);
    return width / 2 - middle * k;
  }

  center(cell) {
    const {width, height} = this.element.getBoundingClientRect();
    if (this.transform.k < 0.6) this.transform.k = 0.9;
    const {k} = this.transform;
    this.transform.x = width / 2 - (cell.px + cell.w / 2) * k;
    this.transform.y = height / 2 - (cell.py + Math.min(cell.h, height / k) / 2) * k;
    this.move();
  }

  zoom(factor, x, y) {
    const {width, height} = this.element.getBoundingClientRect();
    const cx = x === undefined ? width / 2 : x;
    const cy = y === undefined ? height / 2 : y;
    const k = Math.min(4, Math.max(0.02, this.transform.k * factor));
    const ratio = k / this.transform.k;
    this.transform = {k, x: cx - (cx - this.transform.x) * ratio,
                      y: cy - (cy - this.transform.y) * ratio};
    this.move();
  }

  listen() {
    const {element} = this;
    let drag = null;
    element.addEventListener('wheel', (event) => {
      event.preventDefault();
      const box = element.getBoundingClientRect();
      const speed = event.deltaMode === 1 ? 0.05 : 0.0016;
      this.zoom(Math.exp(-event.deltaY * speed), event.clientX - box.left, event.clientY - box.top);
    }, {passive: false});
    element.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      this.moved = false;
      drag = {x: event.clientX, y: event.clientY, from: {...this.transform}};
    });
    window.addEventListener('pointermove', (event) => {
      if (!drag) return;
      const dx = event.clientX - drag.x;
      const dy = event.clientY - drag.y;
      if (!this.moved && Math.hypot(dx, dy) < 4) return;
      this.moved = true;
      element.classList.add('moving');
      this.transform = {...this.transform, x: drag.from.x + dx, y: drag.from.y + dy};
      this.move();
    });
    window.addEventListener('pointerup', () => {
      drag = null;
      element.classList.remove('moving');
      setTimeout(() => { this.moved = false; });  // after the click that ends a drag
    });
    element.addEventListener('click', (event) => {
      if (event.target === element) this.select(null);
    });
  }

  // The box nearest to the selected one in a direction.
  step(dx, dy) {
    const now = this.cellOf(this.selected);
    const cells = this.scene.containers.flatMap((container) => container.items)
        .filter((item) => item !== now && item.kind !== 'open');
    const middle = (cell) => [cell.px + cell.w / 2, cell.py + cell.h / 2];
    const {x, y, k} = this.transform;
    const {width, height} = this.element.getBoundingClientRect();
    const [cx, cy] = now ? middle(now) : [(width / 2 - x) / k, (height / 2 - y) / k];
    let best = null;
    let least = Infinity;
    for (const cell of cells) {
      const [px, py] = middle(cell);
      const along = (px - cx) * dx + (py - cy) * dy;
      const across = Math.abs((px - cx) * dy) + Math.abs((py - cy) * dx);
      if (now && along <= 1) continue;
      const distance = now ? along + 2 * across : Math.hypot(px - cx, py - cy);
      if (distance < least) [best, least] = [cell, distance];
    }
    if (!best) return;
    this.select(best.kind === 'node' ? {node: best.node} : {group: best.group});
    this.keepInSight(best);
  }

  keepInSight(cell) {
    const {x, y, k} = this.transform;
    const {width, height} = this.element.getBoundingClientRect();
    const left = cell.px * k + x;
    const top = cell.py * k + y;
    if (left < 10 || top < 10 || left + cell.w * k > width - 10 || top + cell.h * k > height - 10)
      this.center(cell);
  }
}
