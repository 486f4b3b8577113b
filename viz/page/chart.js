// chart.js: curves of a panel as SVG, with a legend that switches curves, and values under the
// pointer. All charts of a page show the same update.

const COLOURS = ['#0b6bcb', '#d9480f', '#2b8a3e', '#9c36b5', '#c2255c', '#0c8599', '#846358',
                 '#5f6b76', '#b08900', '#364fc7'];

class Chart {
  // `last`: the last update of all charts; `onmove` is told the update under the pointer, or null.
  constructor(panel, last, onmove) {
    this.title = panel.title.replace('tokens per s', 'target tokens per second');
    Object.assign(this, {last, onmove});
    this.curves = panel.curves.map((curve, k) => ({
      ...curve, name: curve.label.split(': ')[0], colour: COLOURS[k % COLOURS.length], on: true,
    }));
    this.log = this.suggestsLog();
    this.legend = html('div', {class: 'curves'});
    this.plot = html('div', {class: 'plot'});
    this.reading = html('div', {class: 'reading'});
    this.logButton = html('button', {class: 'tool', title: 'logarithmic axis', onclick: () => {
      this.log = !this.log;
      this.draw();
    }}, 'log');
    this.element = html('section', {class: 'card chartcard'},
        html('div', {class: 'cardhead'}, html('h2', {title: this.title}, shorten(this.title, '600 15px system-ui, sans-serif', 300)),
                 this.reading, this.logButton),
        this.plot, this.legend);
    this.makeLegend();
  }

  // Positive values over more than two and a half decades.
  suggestsLog() {
    const values = this.curves.flatMap(({y}) => y.filter((v) => v !== null));
    const least = values.reduce((a, b) => Math.min(a, b), Infinity);
    const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
    return least > 0 && most / least > 300;
  }

  makeLegend() {
    put(this.legend, this.curves.map((curve) => html('button', {
      class: 'curve', title: 'show or hide', onclick: (event) => {
        curve.on = !curve.on;
        event.currentTarget.classList.toggle('off', !curve.on);
        this.draw();
      },
    }, html('i', {style: `background:${curve.colour}`}), curve.label)));
  }

  // The values that count for the y axis.
  range() {
    const values = this.curves.filter((curve) => curve.on)
        .flatMap(({y}) => y.filter((v) => v !== null && (!this.log || v > 0)));
    if (values.length === 0) return [0, 1];
    let low = values.reduce((a, b) => Math.min(a, b));
    let high = values.reduce((a, b) => Math.max(a, b));
    if (this.log) return low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
    if (low > 0 && low < high * 0.35) low = 0;
    const room = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
    return [low === 0 ? 0 : low - room, high + room];
  }

  draw() {
    this.logButton.classList.toggle('on', this.log);
    const w = Math.max(280, this.plot.clientWidth || 560);
    const h = 230;
    const box = {left: 54, right: 12, top: 8, bottom: 34};
    const {last} = this;
    const first = 0;
    const [low, high] = this.range();
    const scale = this.log ? Math.log10 : (v) => v;
    const y = (v) => h - box.bottom - (scale(v) - scale(low)) / (scale(high) - scale(low)) *
                                          (h - box.top - box.bottom);
    const x = (v) => box.left + (v - first) / (last - first) * (w - box.left - box.right);
    const picture = svg('svg', {width: w, height: h, viewBox: `0 0 ${w} ${h}`, role: 'img',
                                'aria-label': this.title});
    this.drawAxes(picture, {w, h, box, x, y, low, high, first, last});
    for (const curve of this.curves) if (curve.on) picture.append(...this.drawCurve(curve, x, y));
    this.cursor = svg('g', {class: 'reader'});
    picture.append(this.cursor);
    picture.addEventListener('pointermove', (event) => {
      const share = (event.clientX - picture.getBoundingClientRect().left - box.left) /
                    (w - box.left - box.right);
      this.onmove(first + Math.min(1, Math.max(0, share)) * (last - first));
    });
    picture.addEventListener('pointerleave', () => this.onmove(null));
    this.shape = {x, y, h, box};
    put(this.plot, picture);
    this.read(null);
  }

  drawAxes(picture, {w, h, box, x, y, low, high, first, last}) {
    const marks = this.log ? this.decades(low, high) : ticks(low, high, 5);
    for (const v of marks) {
      picture.append(
          svg('path', {class: 'grid', d: `M${box.left} ${y(v)}H${w - box.right}`}),
          svg('text', {class: 'tick', x: box.left - 6, y: y(v) + 4, 'text-anchor': 'end'},
              numberText(v, 3)));
    }
    for (const v of ticks(first, last, Math.max(3, Math.floor(w / 110)))) {
      const label = count(v);
      const edge = x(v) + textWidth(label, '11px system-ui') / 2 > w;
      picture.append(svg('text', {class: 'tick', x: edge ? w - 1 : x(v), y: h - box.bottom + 16,
                                  'text-anchor': edge ? 'end' : 'middle'}, label));
    }
    picture.append(
        svg('path', {class: 'axis', d: `M${box.left} ${box.top}V${h - box.bottom}H${w - box.right}`}),
        svg('text', {class: 'tick', x: (box.left + w - box.right) / 2, y: h - 3,
                     'text-anchor': 'middle'}, 'updates'));
  }

  // Powers of ten; with 2 and 5 between when there are few.
  decades(low, high) {
    const list = [];
    const few = Math.log10(high / low) < 2.5;
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const k of few ? [1, 2, 5] : [1])
        if (k * 10 ** e >= low && k * 10 ** e <= high) list.push(k * 10 ** e);
    return list;
  }

  // A line with gaps where there is no value; dots where points are few.
  drawCurve(curve, x, y) {
    let d = '';
    let pen = false;
    let dots = '';
    const few = curve.x.length <= 60;
    curve.x.forEach((at, k) => {
      const v = curve.y[k];
      if (v === null || (this.log && v <= 0)) {
        pen = false;
        return;
      }
      const place = `${x(at).toFixed(1)} ${y(v).toFixed(1)}`;
      d += (pen ? 'L' : 'M') + place;
      if (few) dots += `M${place}h0`;
      pen = true;
    });
    return [svg('path', {class: 'curveline', d, stroke: curve.colour}),
            svg('path', {class: 'dots', d: dots, stroke: curve.colour})];
  }

  // The point of a curve that is nearest to an update.
  nearest(curve, update) {
    let low = 0;
    let high = curve.x.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (curve.x[middle] < update) low = middle + 1;
      else high = middle;
    }
    return low > 0 && update - curve.x[low - 1] < curve.x[low] - update ? low - 1 : low;
  }

  // Show the values at an update; null: none.
  read(update) {
    const {x, y, h, box} = this.shape;
    put(this.cursor);
    if (update === null) {
      put(this.reading);
      return;
    }
    const parts = [];
    let shown = null;
    for (const curve of this.curves) {
      if (!curve.on || curve.x.length === 0) continue;
      const k = this.nearest(curve, update);
      const v = curve.y[k];
      if (shown === null) shown = curve.x[k];
      parts.push(html('span', {}, html('i', {style: `background:${curve.colour}`}),
                      this.curves.length > 1 ? curve.name + ' ' : '',
                      html('b', {}, v === null ? 'not finite' : numberText(v, 4))));
      if (v !== null && (!this.log || v > 0))
        this.cursor.append(svg('circle', {cx: x(curve.x[k]), cy: y(v), r: 3.5, fill: curve.colour}));
    }
    if (shown === null) return;
    this.cursor.prepend(svg('path', {class: 'cursor', d: `M${x(shown)} ${box.top}V${h - box.bottom}`}));
    put(this.reading, html('span', {}, 'update ', html('b', {}, count(shown))), parts);
  }
}
