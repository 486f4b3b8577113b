// layout.js: a layered layout. Each open scope is laid out alone, the innermost first, as if what
// it holds were boxes on the ranks of one drawing; then it is a box of its parent. Edges that cross
// its frame end at ports, on the first and the last rank.

const GAP = {NODE: 22, LINE: 12, RANK: 34, PORT: 10, PAD: 16, HEAD: 30, SWEEPS: 10};

// Move positions to those that are nearest to the wanted ones (weighted squares) with the order and
// the distances kept: a regression that pools neighbours which would overlap.
function settle(wanted, weight, distance) {
  const blocks = [];
  const offset = [0];
  for (let i = 1; i < wanted.length; i++) offset.push(offset[i - 1] + distance[i - 1]);
  for (let i = 0; i < wanted.length; i++) {
    let block = {sum: weight[i] * (wanted[i] - offset[i]), weight: weight[i], n: 1};
    while (blocks.length > 0) {
      const last = blocks[blocks.length - 1];
      if (last.sum / last.weight <= block.sum / block.weight) break;
      block = {sum: last.sum + block.sum, weight: last.weight + block.weight, n: last.n + block.n};
      blocks.pop();
    }
    blocks.push(block);
  }
  const result = [];
  for (const block of blocks)
    for (let k = 0; k < block.n; k++)
      result.push(block.sum / block.weight + offset[result.length]);
  return result;
}

class Layering {
  constructor(container) {
    this.container = container;
    this.vertices = [];
    this.vertexOf = new Map();
    for (const port of container.inPorts.values()) this.addVertex(port);
    for (const item of container.items) this.addVertex(item);
    for (const port of container.outPorts.values()) this.addVertex(port);
    this.collectArcs();
    this.rankVertices();
    this.addChains();
    this.makeRanks();
    this.orderRanks();
    this.placeX();
    this.placeY();
  }

  addVertex(item) {
    const vertex = {item, w: item.w, h: item.h, below: [], above: [], rank: 0};
    this.vertices.push(vertex);
    this.vertexOf.set(item, vertex);
    return vertex;
  }

  // Arcs point down the page. Where some close a circle, those that lead back are turned round: to
  // what ends earlier in the order of computation.
  collectArcs() {
    this.arcs = [];
    for (const vertex of this.vertices) vertex.out = [];
    for (const net of this.container.nets.values()) {
      for (const item of net.to) {
        const arc = {net, from: this.vertexOf.get(net.from), to: this.vertexOf.get(item)};
        arc.from.out.push(arc.to);
        this.arcs.push(arc);
      }
    }
    this.findCircles();
    for (const arc of this.arcs) {
      arc.turned = arc.from.circle === arc.to.circle && arc.from.item.end > arc.to.item.end;
      if (arc.turned) [arc.from, arc.to] = [arc.to, arc.from];
    }
  }

  // Vertices that reach each other get the same `circle`: Tarjan's strong components, with a stack
  // of our own instead of recursion.
  findCircles() {
    let time = 0;
    const open = [];
    for (const root of this.vertices) {
      if (root.seen) continue;
      const path = [[root, 0]];
      while (path.length > 0) {
        const top = path[path.length - 1];
        const [vertex, at] = top;
        if (at === 0) {
          vertex.seen = vertex.low = ++time;
          open.push(vertex);
        }
        if (at < vertex.out.length) {
          top[1]++;
          const next = vertex.out[at];
          if (!next.seen) path.push([next, 0]);
          else if (next.circle === undefined) vertex.low = Math.min(vertex.low, next.seen);
          continue;
        }
        path.pop();
        if (path.length > 0) {
          const above = path[path.length - 1][0];
          above.low = Math.min(above.low, vertex.low);
        }
        if (vertex.low === vertex.seen) {
          let member;
          do {
            member = open.pop();
            member.circle = vertex.seen;
          } while (member !== vertex);
        }
      }
    }
  }

  // The longest way from the top; then what nothing leads to goes down to its first reader.
  rankVertices() {
    const waiting = new Map(this.vertices.map((vertex) => [vertex, 0]));
    for (const arc of this.arcs) {
      arc.from.below.push(arc);
      arc.to.above.push(arc);
      waiting.set(arc.to, waiting.get(arc.to) + 1);
    }
    const queue = this.vertices.filter((vertex) => waiting.get(vertex) === 0);
    const base = this.container.inPorts.size > 0 ? 1 : 0;
    for (const vertex of this.vertices) vertex.rank = vertex.item.kind === 'port' ? 0 : base;
    for (let i = 0; i < queue.length; i++) {
      for (const arc of queue[i].below) {
        arc.to.rank = Math.max(arc.to.rank, queue[i].rank + 1);
        waiting.set(arc.to, waiting.get(arc.to) - 1);
        if (waiting.get(arc.to) === 0) queue.push(arc.to);
      }
    }
    for (const vertex of queue.reverse()) {
      if (vertex.item.kind === 'port' || vertex.below.length === 0 || vertex.above.length > 0)
        continue;
      vertex.rank = Math.min(...vertex.below.map((arc) => arc.to.rank)) - 1;
    }
    let last = Math.max(0, ...this.vertices.map((vertex) => vertex.rank));
    const outs = [...this.container.outPorts.values()].map((port) => this.vertexOf.get(port));
    const deepest = Math.max(0, ...this.container.items.map((item) => this.vertexOf.get(item).rank));
    if (outs.length > 0) last = deepest + 1;
    for (const vertex of outs) vertex.rank = last;
    this.rankCount = Math.max(last, deepest) + 1;
  }

  // Arcs of one net that go the same way share a chain of bends, one on each rank between.
  addChains() {
    const chains = new Map();
    this.links = [];  // between neighbouring ranks
    for (const arc of this.arcs) {
      const id = arc.turned ? arc : arc.net;
      if (!chains.has(id)) chains.set(id, [arc.from]);
      const chain = chains.get(id);
      for (let rank = arc.from.rank + chain.length; rank < arc.to.rank; rank++) {
        const bend = {bend: true, w: 0, h: 0, rank, item: null};
        this.vertices.push(bend);
        this.links.push({from: chain[chain.length - 1], to: bend, net: arc.net});
        chain.push(bend);
      }
      const last = chain[arc.to.rank - arc.from.rank - 1];
      arc.chain = chain.slice(0, arc.to.rank - arc.from.rank);
      this.links.push({from: last, to: arc.to, net: arc.net});
    }
  }

  makeRanks() {
    this.ranks = Array.from({length: this.rankCount}, () => []);
    for (const vertex of this.vertices) {
      vertex.up = [];
      vertex.down = [];
    }
    for (const link of this.links) {
      link.from.down.push(link);
      link.to.up.push(link);
    }
    // In the order in which a walk from the top meets them.
    const seen = new Set();
    const walk = (start) => {
      const stack = [start];
      while (stack.length > 0) {
        const vertex = stack.pop();
        if (seen.has(vertex)) continue;
        seen.add(vertex);
        this.ranks[vertex.rank].push(vertex);
        for (let k = vertex.down.length - 1; k >= 0; k--) stack.push(vertex.down[k].to);
      }
    };
    for (const vertex of this.vertices) if (vertex.up.length === 0) walk(vertex);
    for (const vertex of this.vertices) walk(vertex);
    this.number();
  }

  number() {
    for (const rank of this.ranks) rank.forEach((vertex, k) => { vertex.at = k; });
  }

  // Crossings between neighbouring ranks, counted by a tree of sums.
  crossings() {
    let total = 0;
    for (let r = 0; r + 1 < this.ranks.length; r++) {
      const width = this.ranks[r + 1].length;
      const tree = new Int32Array(width + 1);
      let placed = 0;
      for (const vertex of this.ranks[r]) {
        const ends = vertex.down.map((link) => link.to.at);
        for (const end of ends) {
          let left = 0;
          for (let k = end + 1; k > 0; k -= k & -k) left += tree[k];
          total += placed - left;
        }
        for (const end of ends) {
          for (let k = end + 1; k <= width; k += k & -k) tree[k]++;
          placed++;
        }
      }
    }
    return total;
  }

  // Sort each rank by the mean place of its neighbours, down and up in turn; keep the best order.
  orderRanks() {
    const sweeps = this.vertices.length > 4000 ? 4 : GAP.SWEEPS;
    let best = this.crossings();
    let order = this.ranks.map((rank) => rank.slice());
    for (let sweep = 0; sweep < sweeps && best > 0; sweep++) {
      const down = sweep % 2 === 0;
      for (let k = 1; k < this.ranks.length; k++)
        this.sortRank(down ? k : this.ranks.length - 1 - k, down);
      const now = this.crossings();
      if (now < best) {
        best = now;
        order = this.ranks.map((rank) => rank.slice());
      }
    }
    this.ranks = order;
    this.number();
  }

  sortRank(r, down) {
    const rank = this.ranks[r];
    for (const vertex of rank) {
      const links = down ? vertex.up : vertex.down;
      let sum = 0;
      for (const link of links) {
        const other = down ? link.from : link.to;
        sum += other.at + 0.5;
      }
      const size = down ? (this.ranks[r - 1] || []).length : (this.ranks[r + 1] || []).length;
      vertex.mean = links.length > 0 ? sum / links.length / Math.max(1, size)
                                     : (vertex.at + 0.5) / rank.length;
    }
    rank.sort((a, b) => a.mean - b.mean || a.at - b.at);
    rank.forEach((vertex, k) => { vertex.at = k; });
  }

  // ---- places ----

  gap(a, b) {
    if (a.bend || b.bend) return GAP.LINE;
    return a.item.kind === 'port' && b.item.kind === 'port' ? GAP.PORT : GAP.NODE;
  }

  // Where a link leaves or enters a box, from the box's middle: ports of an open scope stand where
  // its own layout put them.
  attach(vertex, net, end) {
    if (vertex.bend || vertex.item.kind !== 'open') return 0;
    const ports = end === 'from' ? vertex.item.outPorts : vertex.item.inPorts;
    const port = ports.get(net.key);
    return port && port.x !== undefined ? port.x - vertex.w / 2 : 0;
  }

  placeX() {
    for (const rank of this.ranks) {
      let x = 0;
      rank.forEach((vertex, k) => {
        if (k > 0) x += rank[k - 1].w / 2 + this.gap(rank[k - 1], vertex) + vertex.w / 2;
        vertex.x = x;
      });
      for (const vertex of rank) vertex.x -= x / 2;
    }
    const passes = this.vertices.length > 4000 ? 4 : 12;
    for (let pass = 0; pass < passes; pass++) {
      const down = pass % 2 === 0;
      for (let k = 0; k < this.ranks.length; k++)
        this.settleRank(this.ranks[down ? k : this.ranks.length - 1 - k], down,
                        pass >= passes - 2);
    }
  }

  settleRank(rank, down, both) {
    if (rank.length === 0) return;
    const wanted = [];
    const weight = [];
    const distance = [];
    rank.forEach((vertex, k) => {
      let sum = 0;
      let total = 0;
      const add = (link, other, mine, theirs) => {
        const strong = vertex.bend && other.bend ? 8 : vertex.bend || other.bend ? 2 : 1;
        const place = other.x + this.attach(other, link.net, theirs) -
                      this.attach(vertex, link.net, mine);
        sum += strong * place;
        total += strong;
      };
      if (down || both) for (const link of vertex.up) add(link, link.from, 'to', 'from');
      if (!down || both) for (const link of vertex.down) add(link, link.to, 'from', 'to');
      wanted.push(total > 0 ? sum / total : vertex.x);
      weight.push(total > 0 ? total : 0.01);
      if (k > 0) distance.push(rank[k - 1].w / 2 + this.gap(rank[k - 1], vertex) + vertex.w / 2);
    });
    settle(wanted, weight, distance).forEach((x, k) => { rank[k].x = x; });
  }

  // Ranks below one another, frames and all. The title of the scope stands left above; lines that
  // come in pass right of it.
  placeY() {
    const {container} = this;
    let left = Infinity;
    let right = -Infinity;
    for (const vertex of this.vertices) {
      left = Math.min(left, vertex.x - vertex.w / 2);
      right = Math.max(right, vertex.x + vertex.w / 2);
    }
    if (left > right) left = right = 0;
    const first = this.ranks[0] || [];
    const isRoot = container.parent === null;
    if (container.inPorts.size > 0 && !isRoot) {
      const port = Math.min(...first.map((vertex) => vertex.x - vertex.w / 2));
      left = Math.min(left, port - container.titleWidth - 8);
    }
    let y = isRoot ? GAP.PAD : GAP.HEAD;
    const width = Math.max(right - left + 2 * GAP.PAD, isRoot ? 0 : container.titleWidth + GAP.PAD);
    for (const vertex of this.vertices) vertex.x += GAP.PAD - left;
    this.ranks.forEach((rank, r) => {
      const height = Math.max(0, ...rank.map((vertex) => vertex.h));
      const links = rank.reduce((n, vertex) => n + vertex.up.length, 0);
      if (r > 0) y += GAP.RANK + Math.min(60, links * 1.2);
      if (r === 0 && container.inPorts.size > 0) y = GAP.HEAD - 8;
      for (const vertex of rank) {
        vertex.top = y;
        vertex.bottom = y + height;
        const low = vertex.item && vertex.up.length === 0;
        if (vertex.item) vertex.y = low ? y + height - vertex.h : y;
      }
      y += height;
    });
    container.w = width;
    container.h = y + (container.outPorts.size > 0 ? 8 : GAP.PAD);
    this.keepPlaces();
  }

  keepPlaces() {
    for (const vertex of this.vertices) {
      if (!vertex.item) continue;
      vertex.item.x = vertex.item.kind === 'port' ? vertex.x : vertex.x - vertex.w / 2;
      vertex.item.y = vertex.y;
    }
    for (const arc of this.arcs) {
      if (!arc.net.arcs) arc.net.arcs = [];
      arc.net.arcs.push(arc);
    }
    this.container.layering = this;
  }

  // ---- lines ----

  // Half-way points of one arc, top to bottom, in the container's coordinates: x, y where the line
  // enters a rank and where it leaves it.
  points(arc) {
    const {container} = this;
    const ends = arc.turned ? ['to', 'from'] : ['from', 'to'];
    const start = arc.chain[0];
    const end = arc.to;
    const list = [];
    const from = start.x + (arc.turned ? 0 : this.attach(start, arc.net, ends[0]));
    const atTop = start.item.kind === 'port';
    list.push([from, atTop ? 0 : start.y + start.h], [from, start.bottom]);
    for (const bend of arc.chain.slice(1)) list.push([bend.x, bend.top], [bend.x, bend.bottom]);
    const to = end.x + (arc.turned ? 0 : this.attach(end, arc.net, ends[1]));
    const atBottom = end.item.kind === 'port';
    list.push([to, end.top], [to, atBottom ? container.h : end.y]);
    return list;
  }
}

// What joins the ends of a turned arc with ports of open scopes: those that come out stand at the
// bottom of a frame, those that go in at its top, so the line goes round the frame's right side.
function detours(arc, x, y) {
  if (!arc.turned) return [];
  const margin = 6;
  const list = [];
  const round = (vertex, port, fromBottom) => {
    const [left, top] = [vertex.item.x + x, vertex.item.y + y];
    const [right, bottom] = [left + vertex.w + margin, top + vertex.h];
    const middle = left + vertex.w / 2;
    const at = left + port.x;
    list.push(fromBottom
        ? `M${at} ${bottom}V${bottom + margin}H${right}V${top - margin}H${middle}`
        : `M${middle} ${bottom + margin}H${right}V${top - margin}H${at}V${top}`);
  };
  const {from, to, net} = arc;
  if (to.item.kind === 'open') round(to, to.item.outPorts.get(net.key), true);
  if (from.item.kind === 'open') round(from, from.item.inPorts.get(net.key), false);
  return list;
}

// A line through points: straight within ranks, bent between them.
function lineThrough(points, x, y) {
  const round = (value) => Math.round(value * 10) / 10;
  let d = `M${round(points[0][0] + x)} ${round(points[0][1] + y)}`;
  for (let i = 1; i < points.length; i++) {
    const [x0, y0] = points[i - 1];
    const [x1, y1] = points[i];
    if (i % 2 === 1 || Math.abs(x0 - x1) < 0.5) {
      if (Math.abs(y0 - y1) > 0.1 || i % 2 === 0) d += `L${round(x1 + x)} ${round(y1 + y)}`;
      continue;
    }
    const middle = (y0 + y1) / 2;
    d += `C${round(x0 + x)} ${round(middle + y)} ${round(x1 + x)} ${round(middle + y)} ` +
         `${round(x1 + x)} ${round(y1 + y)}`;
  }
  return d;
}

// Lay out a scene whose cells have sizes; all get places on the page.
function layOut(scene) {
  for (let k = scene.containers.length - 1; k >= 0; k--) new Layering(scene.containers[k]);
  scene.root.px = 0;
  scene.root.py = 0;
  for (const container of scene.containers)
    for (const item of container.items) {
      item.px = container.px + item.x;
      item.py = container.py + item.y;
    }
}
