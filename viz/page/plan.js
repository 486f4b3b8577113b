// plan.js: memory over the steps of a plan, and who holds what.

const STEP = {LABEL: 0, SCOPE: 1, LINE: 2, DERIVED: 3, KIND: 4, FLOPS: 5, BYTES: 6, WORK: 7, SIZE: 8};
const BUFFER = {LABEL: 0, SCOPE: 1, LINE: 2, DERIVED: 3, TYPE: 4, BYTES: 5, FIRST: 6, LAST: 7,
                SIZE: 8};
const SERIES = ['#4e79a7', '#f28e2b', '#59a14f', '#b07aa1', '#76b7b2', '#e15759', '#edc948',
                '#9c755f', '#bab0ac'];
const ALIGN = 256;  // as the planner's

class Plan {
  constructor(plan) {
    Object.assign(this, plan);
    this.stepCount = this.steps.length / STEP.SIZE;
    this.bufferCount = this.buffers.length / BUFFER.SIZE;
    this.levels = 1;
    this.step = this.peakStep;
    this.chart = html('div', {class: 'chart'});
    this.side = html('div', {class: 'holders'});
    this.element = html('div', {class: 'plan'}, this.summary(), this.toolbar(), this.chart,
                        this.side, this.topTable());
  }

  stepAt(i, field) { return this.steps[i * STEP.SIZE + field]; }
  bufferAt(i, field) { return this.buffers[i * BUFFER.SIZE + field]; }

  // Bytes a buffer takes, rounded up as the planner does.
  size(i) { return Math.ceil(this.bufferAt(i, BUFFER.BYTES) / ALIGN) * ALIGN; }

  // "encoder", "encoder, backward".
  holder(scope, derived) {
    const path = text(scope).split('.').slice(0, this.levels).join('.');
    return (path === '' ? 'outside of scopes' : path) + (derived ? ', backward' : '');
  }

  summary() {
    const [parameters, states, constants, inputs] = this.others;
    const tile = (name, value, hint) => html('div', {class: 'tile', title: hint},
        html('b', {}, value), html('span', {}, name));
    return html('div', {class: 'tiles'},
        tile('peak of values', bytesText(this.peak), `at step ${this.peakStep}`),
        tile('arena', bytesText(this.arena), 'what is allocated for values: the peak and gaps'),
        tile('parameters', bytesText(parameters), 'in the session'),
        tile('states', bytesText(states), 'of the optimizer, in the session'),
        constants + inputs > 0 && tile('inputs, constants', bytesText(inputs + constants),
                                       'fed by the caller, or of the graph'),
        tile('steps', count(this.stepCount), 'kernels that run, in order'),
        tile('operations', count(this.flops), 'by the cost model'),
        tile('in place', count(this.inplace), 'results that take the place of an operand'));
  }

  toolbar() {
    const choose = (levels) => html('button', {
      class: 'tool', onclick: (event) => {
        this.levels = levels;
        for (const other of event.target.parentNode.querySelectorAll('button'))
          other.classList.toggle('on', other === event.target);
        this.draw();
      },
    }, `scopes of ${levels} level${levels > 1 ? 's' : ''}`);
    const buttons = [1, 2, 3].map(choose);
    buttons[0].classList.add('on');
    return html('div', {class: 'bar'}, html('h2', {}, 'Memory over the schedule'), buttons,
        html('button', {class: 'tool', onclick: () => this.show(this.peakStep)}, 'to the peak'));
  }

  // ---- the chart ----

  // Bytes at each step for each holder: the largest eight, then the rest.
  series() {
    const steps = this.stepCount + 1;
    const changes = new Map();
    const change = (name) => {
      if (!changes.has(name)) changes.set(name, new Float64Array(steps + 1));
      return changes.get(name);
    };
    for (let i = 0; i < this.bufferCount; i++) {
      const of = change(this.holder(this.bufferAt(i, BUFFER.SCOPE), this.bufferAt(i, BUFFER.DERIVED)));
      of[this.bufferAt(i, BUFFER.FIRST)] += this.size(i);
      of[Math.min(this.bufferAt(i, BUFFER.LAST) + 1, steps)] -= this.size(i);
    }
    const work = change('workspaces');
    for (let i = 0; i < this.stepCount; i++) {
      const bytes = Math.ceil(this.stepAt(i, STEP.WORK) / ALIGN) * ALIGN;
      work[i] += bytes;
      work[i + 1] -= bytes;
    }
    const list = [];
    for (const [name, of] of changes) {
      for (let i = 1; i <= steps; i++) of[i] += of[i - 1];
      list.push({name, of, most: of.reduce((a, b) => Math.max(a, b), 0)});
    }
    list.sort((a, b) => b.most - a.most);
    if (list.length <= SERIES.length) return list;
    const rest = {name: 'others', of: new Float64Array(steps + 1), most: 0};
    for (const {of} of list.splice(SERIES.length - 1))
      for (let i = 0; i <= steps; i++) rest.of[i] += of[i];
    return [...list, rest];
  }

  draw() {
    const padding = 30;
    const width = Math.max(360, (this.chart.clientWidth || 900) - padding);
    const box = {w: width, h: 300, left: 72, right: 12, top: 14, bottom: 34};
    const list = this.series();
    this.colours = new Map(list.map(({name}, k) => [name, SERIES[k]]));
    const columns = Math.min(this.stepCount + 1, box.w - box.left - box.right);
    const x = (i) => box.left + i / Math.max(1, this.stepCount) * (box.w - box.left - box.right);
    const high = this.peak * 1.06 || 1;
    const y = (v) => box.h - box.bottom - v / high * (box.h - box.top - box.bottom);
    const picture = svg('svg', {class: 'memory', width: box.w, height: box.h,
                                viewBox: `0 0 ${box.w} ${box.h}`});
    const unit = 1024 ** Math.floor(Math.log(high) / Math.log(1024));
    for (const v of ticks(0, high / unit, 5).map((tick) => tick * unit))
      picture.append(svg('path', {class: 'grid', d: `M${box.left} ${y(v)}H${box.w - box.right}`}),
                     svg('text', {class: 'tick', x: box.left - 6, y: y(v) + 4,
                                  'text-anchor': 'end'}, bytesText(v)));
    for (const i of ticks(0, this.stepCount, 8))
      picture.append(svg('text', {class: 'tick', x: x(i), y: box.h - box.bottom + 16,
                                  'text-anchor': 'middle'}, String(Math.round(i))));
    picture.append(svg('text', {class: 'tick', x: (box.left + box.w) / 2, y: box.h - 4,
                                'text-anchor': 'middle'}, 'step'));
    this.drawAreas(picture, list, columns, x, y);
    this.drawPeak(picture, box, x, y);
    this.cursor = svg('path', {class: 'cursor'});
    picture.append(this.cursor);
    this.place = (i) => this.cursor.setAttribute('d', `M${x(i)} ${box.top}V${box.h - box.bottom}`);
    const at = (event) => {
      const left = picture.getBoundingClientRect().left;
      const share = (event.clientX - left - box.left) / (box.w - box.left - box.right);
      return Math.round(Math.min(1, Math.max(0, share)) * (this.stepCount - 1));
    };
    picture.addEventListener('pointermove', (event) => this.show(at(event)));
    picture.addEventListener('pointerleave', () => this.show(this.pinned ?? this.peakStep));
    picture.addEventListener('click', (event) => {
      this.pinned = at(event);
      this.show(this.pinned);
    });
    const legend = html('div', {class: 'key'}, list.map(({name}) => html('span', {},
        html('i', {style: `background:${this.colours.get(name)}`}), name)));
    this.chart.replaceChildren(legend, picture);
    this.show(this.pinned ?? this.peakStep);
  }

  // Stacked areas; of the steps that share a pixel column, the one with the most bytes.
  drawAreas(picture, list, columns, x, y) {
    const of = (c) => Math.min(this.stepCount, Math.floor(c * (this.stepCount + 1) / columns));
    const chosen = [];
    for (let c = 0; c < columns; c++) {
      let best = of(c);
      let most = -1;
      for (let i = of(c); i < Math.max(of(c) + 1, of(c + 1)); i++) {
        const sum = list.reduce((total, one) => total + one.of[i], 0);
        if (sum > most) [best, most] = [i, sum];
      }
      chosen.push(best);
    }
    const base = new Float64Array(chosen.length);
    for (const {name, of: values} of list) {
      let upper = '';
      let lower = '';
      chosen.forEach((i, c) => {
        const px = x(i).toFixed(1);
        lower = `L${px} ${y(base[c]).toFixed(1)}` + lower;
        base[c] += values[i];
        upper += `${c === 0 ? 'M' : 'L'}${px} ${y(base[c]).toFixed(1)}`;
      });
      picture.append(svg('path', {class: 'area', fill: this.colours.get(name),
                                  d: upper + lower + 'Z'}));
    }
  }

  drawPeak(picture, box, x, y) {
    const px = x(this.peakStep);
    const py = y(this.peak);
    const label = `peak ${bytesText(this.peak)}, step ${this.peakStep}`;
    const right = px + textWidth(label, FONT.label) + 20 > box.w;
    picture.append(
        svg('circle', {class: 'peak', cx: px, cy: py, r: 4}),
        svg('text', {class: 'peakname', x: px + (right ? -9 : 9), y: Math.max(py + 2, 14),
                     'text-anchor': right ? 'end' : 'start'}, label));
  }

  // ---- one step ----

  alive(step) {
    const list = [];
    for (let i = 0; i < this.bufferCount; i++)
      if (this.bufferAt(i, BUFFER.FIRST) <= step && this.bufferAt(i, BUFFER.LAST) >= step)
        list.push(i);
    return list.sort((a, b) => this.size(b) - this.size(a));
  }

  show(step) {
    this.step = step;
    this.place(step);
    const alive = this.alive(step);
    const work = Math.ceil(this.stepAt(step, STEP.WORK) / ALIGN) * ALIGN;
    const held = new Map();
    for (const i of alive) {
      const name = this.holder(this.bufferAt(i, BUFFER.SCOPE), this.bufferAt(i, BUFFER.DERIVED));
      const sum = held.get(name) || {bytes: 0, n: 0};
      held.set(name, {bytes: sum.bytes + this.size(i), n: sum.n + 1});
    }
    if (work > 0) held.set('workspaces', {bytes: work, n: 1});
    const total = [...held.values()].reduce((sum, {bytes}) => sum + bytes, 0);
    const rows = [...held].sort((a, b) => b[1].bytes - a[1].bytes).slice(0, 12);
    const what = [text(this.stepAt(step, STEP.LABEL)), text(this.stepAt(step, STEP.SCOPE)),
                  text(this.stepAt(step, STEP.LINE))].filter(Boolean).join(' · ');
    this.side.replaceChildren(
        html('h3', {}, `Step ${step}${step === this.peakStep ? ', the peak' : ''}: ` +
             `${bytesText(total)} in ${alive.length} buffers`),
        html('p', {class: 'what', title: what}, what),
        html('table', {class: 'bars'}, rows.map(([name, {bytes, n}]) => html('tr', {},
            html('td', {}, name), html('td', {class: 'number'}, `${count(n)}`),
            html('td', {class: 'number'}, bytesText(bytes)),
            html('td', {class: 'bar'}, html('i', {
              style: `width:${(100 * bytes / total).toFixed(1)}%;` +
                     `background:${this.colours.get(name) || SERIES[8]}`,
            }))))));
  }

  // ---- the largest buffers ----

  scopeText(i) {
    const path = text(this.bufferAt(i, BUFFER.SCOPE));
    if (!this.bufferAt(i, BUFFER.DERIVED)) return path;
    return path === '' ? 'backward' : path + ', backward';
  }

  topTable() {
    const all = Array.from({length: this.bufferCount}, (_, i) => i);
    const top = all.sort((a, b) => this.size(b) - this.size(a)).slice(0, 10);
    const head = ['bytes', 'buffer', 'type', 'scope', 'made at', 'lives in steps'];
    const cell = (i) => [
      bytesText(this.bufferAt(i, BUFFER.BYTES)), text(this.bufferAt(i, BUFFER.LABEL)),
      text(this.bufferAt(i, BUFFER.TYPE)),
      this.scopeText(i),
      text(this.bufferAt(i, BUFFER.LINE)),
      `${this.bufferAt(i, BUFFER.FIRST)} to ${this.bufferAt(i, BUFFER.LAST)}`,
    ];
    return html('div', {class: 'top'}, html('h2', {}, 'The ten largest buffers'),
        html('table', {class: 'list'}, html('tr', {}, head.map((name) => html('th', {}, name))),
            top.map((i) => html('tr', {}, cell(i).map((value) => html('td', {}, value))))));
  }
}
