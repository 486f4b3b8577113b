// graph.js: a graph as it stands in the page's data, and what of it is visible.

const GROUP = {NAME: 0, PATH: 1, PARENT: 2, DERIVED: 3, FIRST: 4, N: 5, ALIKE: 6, REPEATS: 7,
               HIGH: 8, SIZE: 9};
// Kinds of ops by the words of the legend; sources come first.
const kindNamed = (word) => data.kinds.findIndex(([name]) => name === word);
const KIND_PARAMETER = kindNamed('parameter');
const KIND_CONSTANT = kindNamed('constant');
const KIND_VIEW = kindNamed('view');
const KIND_CLOSED = kindNamed('closed scope');
const ROLES = ['', 'gradient', 'inverse', 'fused', 'computed again'];

const text = (number) => data.strings[number];

// Nodes are numbers: places in the columns. Scopes ("groups") are numbers as well.
class Graph {
  constructor(columns) {
    Object.assign(this, columns);
    this.n = this.label.length;
    this.groupCount = this.groups.length / GROUP.SIZE;
    this.findOperands();
    this.findGroups();
    this.sumGroups();
  }

  group(g, field) { return this.groups[g * GROUP.SIZE + field]; }

  findOperands() {
    this.start = new Int32Array(this.n + 1);
    for (let i = 0; i < this.n; i++) this.start[i + 1] = this.start[i] + this.nin[i];
    this.maker = new Int32Array(this.n);  // outputs stand with the op that makes them
    for (let i = 0; i < this.n; i++)
      this.maker[i] = this.kind(i) < 0 ? this.in[this.start[i]] : i;
  }

  findGroups() {
    this.children = Array.from({length: this.groupCount}, () => []);
    this.groupOf = new Int32Array(this.n);
    this.own = new Int32Array(this.groupCount);  // nodes of its own, the first of its range
    for (let g = 0; g < this.groupCount; g++) {
      this.own[g] += this.group(g, GROUP.N);
      const parent = this.group(g, GROUP.PARENT);
      if (parent < 0) continue;
      this.children[parent].push(g);
      this.own[parent] -= this.group(g, GROUP.N);
    }
    for (let g = 0; g < this.groupCount; g++) {
      const first = this.group(g, GROUP.FIRST);
      this.groupOf.fill(g, first, first + this.own[g]);
    }
  }

  // Ops, parameters, operations and bytes of each scope, with those inside.
  sumGroups() {
    this.sums = Array.from({length: this.groupCount},
                           () => ({ops: 0, parameters: 0, flops: 0, bytes: 0}));
    for (let i = 0; i < this.n; i++) {
      const sum = this.sums[this.groupOf[i]];
      sum.ops += this.kind(i) > KIND_CONSTANT ? 1 : 0;
      sum.parameters += this.elements(i);
      if (!this.flops) continue;
      sum.flops += this.flops[i];
      sum.bytes += this.bytes[i];
    }
    for (let g = this.groupCount - 1; g > 0; g--) {
      const up = this.sums[this.group(g, GROUP.PARENT)];
      for (const field of Object.keys(up)) up[field] += this.sums[g][field];
    }
  }

  kind(i) { return this.ops[this.op[i]][1]; }

  // The largest number of a scope's nodes: where it ends in the order of computation.
  end(g) {
    const first = this.group(g, GROUP.FIRST);
    let most = 0;
    for (let i = first; i < first + this.group(g, GROUP.N); i++) most = Math.max(most, this.id[i]);
    return most;
  }

  operands(i) { return this.in.slice(this.start[i], this.start[i + 1]); }

  // The nodes that read a node, outputs of ops passed through.
  readers(i) {
    if (!this.users) {
      this.users = Array.from({length: this.n}, () => []);
      for (let k = 0; k < this.n; k++) {
        if (this.maker[k] !== k) continue;
        for (const operand of new Set(this.operands(k))) this.users[this.maker[operand]].push(k);
      }
    }
    return this.users[i];
  }

  // Numbers of a parameter; 0 for other nodes.
  elements(i) {
    if (this.kind(i) !== KIND_PARAMETER) return 0;
    const dims = text(this.type[i]).match(/\d+(?=[,\]])/g) || [];
    return dims.reduce((product, size) => product * Number(size), 1);
  }

  groupName(g) {
    const role = this.group(g, GROUP.DERIVED) ? this.derivedWord(g) : '';
    if (g === 0) return 'everything';
    if (this.group(g, GROUP.PATH) === 0) return role;
    return text(this.group(g, GROUP.NAME));
  }

  // "gradient of encoder.layer0"
  groupPath(g) {
    const path = text(this.group(g, GROUP.PATH));
    if (!this.group(g, GROUP.DERIVED)) return path === '' ? 'everything' : path;
    return this.derivedWord(g) + (path === '' ? '' : ' of ' + path);
  }

  derivedWord(g) {
    const first = this.group(g, GROUP.FIRST);
    let word = ROLES[4];
    for (let i = first; i < first + this.group(g, GROUP.N) && word === ROLES[4]; i++)
      word = ROLES[this.role[i]];
    return word;
  }

  nodeName(i) { return this.name[i] ? text(this.name[i]) : text(this.label[i]); }

  within(g, outer) {
    while (g >= 0 && g !== outer) g = this.group(g, GROUP.PARENT);
    return g === outer;
  }
}

// The edges of a graph as it is drawn. `fold`: repeated scopes once; `views`: boxes for what only
// renames bytes, too, instead of lines that pass it; `derived`: gradients, too.
class Folding {
  constructor(graph, {fold, views, derived}) {
    Object.assign(this, {graph, views, derived});
    this.alike = new Int32Array(graph.groupCount);
    this.hidden = new Uint8Array(graph.groupCount);
    this.folded = new Uint8Array(graph.groupCount);  // it or a scope around it is drawn elsewhere
    for (let g = 0; g < graph.groupCount; g++) {
      const parent = graph.group(g, GROUP.PARENT);
      this.alike[g] = fold ? graph.group(g, GROUP.ALIKE) : g;
      this.folded[g] = this.alike[g] !== g || (parent >= 0 && this.folded[parent]) ? 1 : 0;
      this.hidden[g] = this.folded[g] || (!derived && graph.group(g, GROUP.DERIVED)) ? 1 : 0;
    }
    this.isFolding = fold;
    this.findSources();
    this.findSame();
    this.findEdges();
    this.hideEmpty();
  }

  // So many scopes are drawn as this one.
  repeats(g) {
    return this.isFolding && this.alike[g] === g ? this.graph.group(g, GROUP.REPEATS) : 1;
  }

  // Where the value of a node comes from that has no box: an output of an op, or a view.
  findSources() {
    const {graph} = this;
    this.source = new Int32Array(graph.n);
    const order = Array.from({length: graph.n}, (_, i) => i).sort((a, b) => graph.id[a] - graph.id[b]);
    for (const i of order) {
      const passed = graph.maker[i] !== i || (!this.views && graph.kind(i) === KIND_VIEW);
      this.source[i] = passed && graph.nin[i] > 0 ? this.source[graph.in[graph.start[i]]] : i;
    }
  }

  // Is the node a box when its scope is open? Sources that only gradients read are not.
  isBox(i) {
    if (this.source[i] !== i) return false;
    const {graph} = this;
    if (this.derived || this.used[i] === 1 || graph.kind(i) > KIND_CONSTANT) return true;
    return !graph.readers(i).some((reader) => graph.group(graph.groupOf[reader], GROUP.DERIVED));
  }

  // Scopes without a box are left out, as those that only rename bytes.
  hideEmpty() {
    const {graph} = this;
    const boxes = new Int32Array(graph.groupCount);
    for (let i = 0; i < graph.n; i++) if (this.isBox(i)) boxes[graph.groupOf[i]]++;
    for (let g = graph.groupCount - 1; g > 0; g--) {
      if (boxes[g] === 0) this.hidden[g] = 1;
      boxes[graph.group(g, GROUP.PARENT)] += boxes[g];
    }
  }

  // The node drawn in a node's place: nodes of scopes that are alike stand in the same order.
  findSame() {
    const {graph} = this;
    this.same = Int32Array.from({length: graph.n}, (_, i) => i);
    for (let g = 0; g < graph.groupCount; g++) {
      if (this.alike[g] === g) continue;
      const from = graph.group(g, GROUP.FIRST);
      const to = graph.group(this.alike[g], GROUP.FIRST);
      for (let k = 0; k < graph.group(g, GROUP.N); k++) this.same[from + k] = to + k;
    }
    for (let i = 0; i < graph.n; i++) {
      let other = this.source[i];
      while (this.same[other] !== other) other = this.source[this.same[other]];
      this.same[i] = other;
    }
  }

  // Pairs of nodes as they are drawn; between one repeated scope and the next: `next`.
  findEdges() {
    const {graph} = this;
    const from = [];
    const to = [];
    const seen = new Set();
    this.next = [];
    this.used = new Uint8Array(graph.n);
    for (let v = 0; v < graph.n; v++) {
      if (this.source[v] !== v || (!this.derived && graph.group(graph.groupOf[v], GROUP.DERIVED)))
        continue;
      for (let k = graph.start[v]; k < graph.start[v + 1]; k++) {
        const u = this.source[graph.in[k]];
        this.used[this.same[u]] = 1;
        const [common, a, b] = this.meeting(graph.groupOf[u], graph.groupOf[v]);
        if (this.folded[common]) continue;
        const x = this.same[u];
        const y = this.same[v];
        const key = x * graph.n + y;
        const crosses = a >= 0 && b >= 0 && a !== b && this.alike[a] === this.alike[b];
        if (seen.has(crosses ? -1 - key : key)) continue;
        seen.add(crosses ? -1 - key : key);
        if (crosses) {
          this.next.push([x, y, this.alike[a]]);
        } else if (x !== y) {
          from.push(x);
          to.push(y);
        }
      }
    }
    this.from = Int32Array.from(from);
    this.to = Int32Array.from(to);
  }

  // The innermost scope around both, and the scopes right below it towards each (-1: none).
  meeting(a, b) {
    const {graph} = this;
    if (a === b) return [a, -1, -1];
    if (!this.depth) {
      this.depth = new Int32Array(graph.groupCount);
      for (let g = 1; g < graph.groupCount; g++)
        this.depth[g] = this.depth[graph.group(g, GROUP.PARENT)] + 1;
    }
    let x = -1;
    let y = -1;
    while (a !== b) {
      if (this.depth[a] >= this.depth[b]) {
        x = a;
        a = graph.group(a, GROUP.PARENT);
      } else {
        y = b;
        b = graph.group(b, GROUP.PARENT);
      }
    }
    return [a, x, y];
  }
}

// What is visible when some scopes are open: a tree of containers with cells and edges. A cell is a
// node, a closed scope, or an open scope, which is a container itself.
class Scene {
  constructor(graph, folding, open) {
    Object.assign(this, {graph, folding, open});
    this.containers = [];
    this.nodeCell = new Map();
    this.groupCell = new Map();
    this.closedBy = new Int32Array(graph.groupCount).fill(-1);
    this.root = this.makeContainer(0, null);
    this.edges = new Map();  // "from to" -> {from, to, tensors}
    this.makeEdges();
    for (const edge of this.edges.values()) this.route(edge);
    this.makeNext();
  }

  makeContainer(g, parent) {
    const {graph, folding} = this;
    const cell = {kind: 'open', group: g, parent, items: [], nets: new Map(), inPorts: new Map(),
                  outPorts: new Map(), depth: parent ? parent.depth + 1 : 0,
                  end: graph.end(g)};
    this.groupCell.set(g, cell);
    this.containers.push(cell);
    const first = graph.group(g, GROUP.FIRST);
    for (let i = first; i < first + graph.own[g]; i++) {
      if (!folding.isBox(i)) continue;
      const node = {kind: 'node', node: i, parent: cell, end: graph.id[i]};
      cell.items.push(node);
      this.nodeCell.set(i, node);
    }
    for (const child of graph.children[g]) {
      if (folding.hidden[child]) continue;
      if (this.open.has(child)) {
        cell.items.push(this.makeContainer(child, cell));
      } else {
        const closed = {kind: 'closed', group: child, parent: cell, end: graph.end(child)};
        cell.items.push(closed);
        this.groupCell.set(child, closed);
        this.close(child, child);
      }
    }
    return cell;
  }

  close(g, by) {
    this.closedBy[g] = by;
    for (const child of this.graph.children[g]) this.close(child, by);
  }

  // The cell that shows a node, which is one that is drawn (not one folded into another).
  cellOf(i) {
    const by = this.closedBy[this.graph.groupOf[i]];
    return by >= 0 ? this.groupCell.get(by) : this.nodeCell.get(i);
  }

  makeEdges() {
    const {from, to} = this.folding;
    let number = 0;
    for (const container of this.containers)
      for (const item of container.items) item.number = number++;
    for (let e = 0; e < from.length; e++) {
      const a = this.cellOf(from[e]);
      const b = this.cellOf(to[e]);
      if (a === b || !a || !b) continue;
      const key = a.number * number + b.number;
      const edge = this.edges.get(key);
      if (edge) edge.tensors.add(from[e]);
      else this.edges.set(key, {from: a, to: b, tensors: new Set([from[e]])});
    }
  }

  // Lead an edge through the frames between its ends: each open scope on the way has a port for
  // what comes from one cell.
  route(edge) {
    const up = [];
    const down = [];
    let a = edge.from;
    let b = edge.to;
    while (a.parent !== b.parent) {
      if (a.parent.depth >= b.parent.depth) {
        up.push(a);
        a = a.parent;
      } else {
        down.push(b);
        b = b.parent;
      }
    }
    edge.pieces = [];
    for (const item of up) edge.pieces.push(this.connect(item.parent, item, edge, null));
    edge.pieces.push(this.connect(a.parent, a, edge, b));
    for (const item of down.reverse()) edge.pieces.push(this.connect(item.parent, null, edge, item));
  }

  // One piece inside a container; from = null: from its border, to = null: to its border.
  connect(container, from, edge, to) {
    const key = edge.from.number;
    const start = from || this.port(container.inPorts, key);
    const end = to || this.port(container.outPorts, key);
    const id = (from ? from.number : 'port') + ' ' + key;
    let net = container.nets.get(id);
    if (!net) {
      net = {from: start, key, to: new Set(), tensors: new Set(), source: edge.from};
      container.nets.set(id, net);
    }
    net.to.add(end);
    edge.tensors.forEach((tensor) => net.tensors.add(tensor));
    return {container, net, to: end};
  }

  port(ports, key) {
    if (!ports.has(key)) ports.set(key, {kind: 'port', key, w: 0, h: 0});
    return ports.get(key);
  }

  // What a repeated scope hands to the next one of its kind: cells with a mark.
  makeNext() {
    const inside = (cell, g) => cell && this.graph.within(
        cell.kind === 'node' ? this.graph.groupOf[cell.node] : cell.group, g);
    for (const [x, y, g] of this.folding.next) {
      const a = this.cellOf(x);
      const b = this.cellOf(y);
      if (inside(a, g)) a.toNext = true;
      if (inside(b, g)) b.fromPrevious = true;
    }
  }
}
