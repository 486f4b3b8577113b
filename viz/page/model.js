// model.js: the page of a model: tabs, search, the panel of details, keys.

const page = {views: {}, tab: null};

// ---- the panel ----

const panel = html('aside', {class: 'panel', 'aria-label': 'details'});

function row(name, value) {
  return value === null || value === '' || value === undefined
             ? null : html('div', {class: 'row'}, html('dt', {}, name), html('dd', {}, value));
}

// A link to a node or scope of the shown graph.
function link(view, what, words) {
  return html('button', {class: 'link', onclick: () => view.reveal(what)}, words);
}

function nodeLink(view, i) {
  const {graph} = view;
  return html('li', {}, link(view, {node: i}, graph.nodeName(i) || '(no name)'), ' ',
              html('span', {class: 'type'}, text(graph.type[i])));
}

function nodeList(view, name, nodes) {
  const shown = nodes.slice(0, 40);
  if (nodes.length === 0) return null;
  return html('section', {}, html('h3', {}, `${name} (${nodes.length})`),
              html('ul', {class: 'nodes'}, shown.map((i) => nodeLink(view, i)),
                   nodes.length > shown.length &&
                       html('li', {}, `and ${nodes.length - shown.length} more`)));
}

// Each scope of a path as a link.
function scopeLinks(view, g) {
  const list = [];
  for (; g > 0; g = view.graph.group(g, GROUP.PARENT))
    list.unshift(link(view, {group: g}, view.graph.groupName(g)));
  return list.length === 0 ? 'none' : list.flatMap((item, k) => (k > 0 ? ['.', item] : [item]));
}

function sizesText(type) {
  const known = Object.keys(data.sizes);
  const inner = type.match(/\[(.*)\]/);
  if (!inner || known.length === 0 || !known.some((name) => inner[1].includes(name))) return null;
  return known.filter((name) => new RegExp(`\\b${name}\\b`).test(inner[1]))
      .map((name) => `${name} = ${data.sizes[name]}`).join(', ');
}

function showNode(view, i) {
  const {graph} = view;
  const [op, kind, doc] = graph.ops[graph.op[i]];
  const type = text(graph.type[i]);
  const elements = graph.elements(i);
  const drawn = view.folding.same[i];
  const attrs = text(graph.attrs[i]).split('\n').filter(Boolean);
  const origin = graph.origin[i] - 1;
  put(panel,
      html('h2', {}, graph.nodeName(i) || '(no name)'),
      html('p', {class: 'kind'}, html('i', {style: `background:${data.kinds[Math.max(kind, 0)][1]}`}),
           data.kinds[Math.max(kind, 0)][0], graph.role[i] ? `, ${ROLES[graph.role[i]]}` : ''),
      graph.maker[drawn] !== graph.maker[i] &&
          html('p', {class: 'note'}, 'Drawn as its like in ',
               link(view, {node: drawn}, graph.groupPath(graph.groupOf[drawn]))),
      html('dl', {}, row('op', op), row('meaning', doc), row('scope', scopeLinks(view, graph.groupOf[i])),
           row('shape', type.replace(/^\w+ /, '')), row('dtype', type.split(' ')[0]),
           row('sizes', sizesText(type)),
           row('source', html('code', {class: 'source'}, text(graph.line[i]))),
           row('parameter', kind === KIND_PARAMETER ? `yes, ${count(elements)} numbers` : 'no'),
           row('operations', graph.flops && graph.flops[i] > 0 ? count(graph.flops[i]) : null),
           row('bytes moved', graph.bytes && graph.bytes[i] > 0 ? bytesText(graph.bytes[i]) : null),
           row('node', `${graph.id[i]}`),
           row('made for', origin >= 0 ? link(view, {node: origin}, graph.nodeName(origin)) : null)),
      attrs.length > 0 && html('section', {}, html('h3', {}, 'Attributes'),
          html('dl', {}, attrs.map((line) => {
            const at = line.indexOf(': ');
            return row(line.slice(0, at), line.slice(at + 2));
          }))),
      nodeList(view, 'Operands', [...graph.operands(i)]),
      nodeList(view, 'Read by', graph.readers(graph.maker[i])));
}

function showGroup(view, g) {
  const {graph} = view;
  const sum = {...graph.sums[g]};
  for (const child of g === 0 && !view.derived ? graph.children[0] : []) {
    if (!graph.group(child, GROUP.DERIVED)) continue;
    for (const field of Object.keys(sum)) sum[field] -= graph.sums[child][field];
  }
  const repeats = view.folding.repeats(g);
  const children = graph.children[g].filter((child) => view.derived ||
                                                       !graph.group(child, GROUP.DERIVED));
  const isOpen = view.open.has(g) || g === 0;
  put(panel,
    html('h2', {}, graph.groupPath(g)),
    html('p', {class: 'kind'}, html('i', {style: `background:${data.kinds[KIND_CLOSED][1]}`}),
         repeats > 1 ? `scope, one of ${repeats} that are built alike` : 'scope'),
    html('p', {class: 'buttons'},
         g !== 0 && html('button', {class: 'tool', onclick: () => view.toggle(g)},
                         isOpen ? 'close' : 'open'),
         html('button', {class: 'tool', onclick: () => view.openInside(g)}, 'open all inside'),
         isOpen && html('button', {class: 'tool', onclick: () => {
           view.fit(view.cellOf({group: g}));
         }}, 'zoom to it')),
    html('dl', {}, row('ops', count(sum.ops)),
         row('parameters', sum.parameters > 0 ? count(sum.parameters) : null),
         row('operations', sum.flops > 0 ? count(sum.flops) : null),
         row('bytes moved', sum.bytes > 0 ? bytesText(sum.bytes) : null),
         row('inside of', g > 0 && graph.group(g, GROUP.PARENT) > 0
                              ? scopeLinks(view, graph.group(g, GROUP.PARENT)) : null)),
    children.length > 0 && html('section', {}, html('h3', {}, `Scopes inside (${children.length})`),
        html('ul', {class: 'nodes'}, children.map((child) => html('li', {},
            link(view, {group: child}, graph.groupPath(child).replace(graph.groupPath(g) + '.', '')),
            ' ', html('span', {class: 'type'}, opsText(graph.sums[child].ops) +
                (graph.sums[child].parameters > 0
                     ? `, ${count(graph.sums[child].parameters)} parameters` : '')))))));
}

function showSelection(view, what) {
  if (what && 'node' in what) showNode(view, what.node);
  else showGroup(view, what ? what.group : 0);
  panel.scrollTop = 0;
}

// ---- searching ----

const results = html('ul', {class: 'results', role: 'listbox'});
const search = html('input', {
  type: 'search', class: 'search', placeholder: 'Search names, ops, scopes   /',
  'aria-label': 'search', oninput: () => findAll(), onfocus: () => findAll(),
  onkeydown: (event) => searchKey(event),
});

// Names that begin with the words come first, then scopes, then the rest.
function findAll() {
  const view = page.views[page.tab];
  const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  results.replaceChildren();
  if (!(view instanceof View) || words.length === 0) return;
  const {graph} = view;
  const hits = [];
  const add = (what, name, ...others) => {
    const all = [name, ...others].join(' ').toLowerCase();
    if (!words.every((word) => all.includes(word))) return;
    const last = name.toLowerCase().split('.').pop();
    const rank = last === words[0] ? 0 : last.startsWith(words[0]) ? 1
        : name.toLowerCase().includes(words[0]) ? 2 : 3;
    hits.push({what, name, others, rank: rank * 2 + ('group' in what ? 0 : 1)});
  };
  for (let g = 1; g < graph.groupCount; g++) {
    if (!view.derived && graph.group(g, GROUP.DERIVED)) continue;
    add({group: g}, graph.groupPath(g), 'scope');
  }
  for (let i = 0; i < graph.n; i++) {
    if (!view.derived && graph.group(graph.groupOf[i], GROUP.DERIVED)) continue;
    add({node: i}, graph.nodeName(i), graph.ops[graph.op[i]][0],
        graph.groupPath(graph.groupOf[i]), ROLES[graph.role[i]]);
  }
  hits.sort((a, b) => a.rank - b.rank || a.name.length - b.name.length);
  const shown = hits.slice(0, 60);
  results.replaceChildren(...shown.map((hit) => html('li', {
    role: 'option', onpointerdown: (event) => {
      event.preventDefault();
      choose(hit);
    },
  }, html('b', {}, hit.name || '(no name)'), html('span', {}, hit.others.filter(Boolean).join(' · ')))));
  if (hits.length > shown.length)
    results.append(html('li', {class: 'more'}, `and ${hits.length - shown.length} more`));
  if (hits.length === 0) results.append(html('li', {class: 'more'}, 'nothing of that name'));
  page.hits = shown;
  page.hit = 0;
  markHit();
}

function markHit() {
  [...results.children].forEach((item, k) => item.classList.toggle('on', k === page.hit));
  const item = results.children[page.hit];
  if (item) item.scrollIntoView({block: 'nearest'});
}

function choose(hit) {
  const view = page.views[page.tab];
  results.replaceChildren();
  search.blur();
  view.reveal(hit.what);
  view.element.focus();
}

function searchKey(event) {
  const last = (page.hits || []).length - 1;
  if (event.key === 'Escape') {
    results.replaceChildren();
    search.value = '';
    search.blur();
  } else if (event.key === 'Enter' && results.children.length > 0 && page.hits[page.hit]) {
    choose(page.hits[page.hit]);
  } else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
    page.hit = Math.max(0, Math.min(last, page.hit + (event.key === 'ArrowDown' ? 1 : -1)));
    markHit();
    event.preventDefault();
  }
  event.stopPropagation();
}

// ---- tabs ----

const stage = html('main', {class: 'stage'});
const tabs = html('nav', {class: 'tabs', role: 'tablist'});
const optionButton = (name, words, hint) => html('button', {
  class: 'tool', title: hint, onclick: () => {
    const view = page.views[page.tab];
    view.setOption(name, !view.options[name]);
    showTools();
  },
}, words);
const optionButtons = {
  fold: optionButton('fold', 'fold layers', 'draw layers that are built alike once'),
  views: optionButton('views', 'views', 'draw what only renames bytes, too (a reshape)'),
};
const graphTools = html('span', {class: 'tools'}, optionButtons.fold, optionButtons.views,
    html('button', {class: 'tool', title: 'close all scopes', onclick: () => {
      page.views[page.tab].closeAll();
    }}, 'close all'),
    html('button', {class: 'tool', title: 'see everything (0)', onclick: () => {
      page.views[page.tab].fit(null);
    }}, 'fit'));

function showTools() {
  const view = page.views[page.tab];
  const isGraph = view instanceof View;
  graphTools.hidden = !isGraph;
  search.hidden = !isGraph;
  panel.hidden = !isGraph;
  document.body.classList.toggle('nopanel', !isGraph);
  for (const [name, button] of Object.entries(optionButtons))
    button.classList.toggle('on', isGraph && view.options[name]);
}

function legend(graph, derived) {
  const used = new Set([KIND_CLOSED]);
  for (let i = 0; i < graph.n; i++)
    if (graph.kind(i) >= 0 && (derived || !graph.group(graph.groupOf[i], GROUP.DERIVED)))
      used.add(graph.kind(i));
  return html('div', {class: 'legend'}, data.kinds.map(([word, colour, border], k) =>
      used.has(k) && html('span', {}, html('i', {
        style: `background:${colour};border-color:${border}`}), word)),
      derived && html('span', {}, html('i', {style: `background:#fff;border-color:${INK_DERIVED}`}),
                      'derived'),
      graph.groupCount > 1 && html('span', {}, '↷ to the next layer, ⤷ from the one before'));
}

function graphTab(of, derived) {
  if (typeof of === 'string') return {element: html('div', {class: 'absent'}, html('p', {}, of))};
  if (!page.graphs) page.graphs = new Map();
  if (!page.graphs.has(of)) page.graphs.set(of, new Graph(of));
  const graph = page.graphs.get(of);
  const view = new View(graph, derived, (what) => showSelection(view, what));
  view.onoption = showTools;
  view.frame = html('div', {class: 'holder'}, view.element, legend(graph, derived),
                     of.messages !== '' && html('pre', {class: 'messages'}, of.messages));
  return view;
}

const TABS = {
  forward: () => graphTab(data.loss, false),
  gradient: () => graphTab(data.loss, true),
  inverse: () => graphTab(data.inverse, true),
  plan: () => (typeof data.plan === 'string'
                   ? {element: html('div', {class: 'absent'}, html('p', {}, data.plan))}
                   : new Plan(data.plan)),
};

function show(name) {
  page.tab = name;
  if (!page.views[name]) page.views[name] = TABS[name]();
  const view = page.views[name];
  for (const tab of tabs.children) {
    tab.classList.toggle('on', tab.dataset.tab === name);
    tab.setAttribute('aria-selected', tab.dataset.tab === name);
  }
  results.replaceChildren();
  stage.replaceChildren(view.frame || view.element);
  showTools();
  if (view instanceof Plan) view.draw();
  if (!(view instanceof View)) return;
  if (!view.started) {
    view.start();
    view.begin();
  }
  showSelection(view, view.selected);
}

for (const name of Object.keys(TABS))
  tabs.append(html('button', {class: 'tab', role: 'tab', 'data-tab': name,
                              onclick: () => show(name)}, name));

// ---- keys ----

const KEYS = {
  '/': () => search.focus(),
  Escape: (view) => view.select(null),
  ArrowLeft: (view) => view.step(-1, 0),
  ArrowRight: (view) => view.step(1, 0),
  ArrowUp: (view) => view.step(0, -1),
  ArrowDown: (view) => view.step(0, 1),
  Enter: (view) => {
    if (view.selected && 'group' in view.selected) view.toggle(view.selected.group);
  },
  Backspace: (view) => {
    const g = view.selected && ('group' in view.selected
        ? view.graph.group(view.selected.group, GROUP.PARENT)
        : view.graph.groupOf[view.folding.same[view.selected.node]]);
    if (g > 0 && view.open.has(g)) view.toggle(g);
  },
  '+': (view) => view.zoom(1.25),
  '=': (view) => view.zoom(1.25),
  '-': (view) => view.zoom(0.8),
  0: (view) => view.fit(null),
};

document.addEventListener('keydown', (event) => {
  const view = page.views[page.tab];
  const key = KEYS[event.key];
  const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName);
  const pressing = event.target.tagName === 'BUTTON' && event.key === 'Enter';
  if (!key || typing || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!(view instanceof View)) return;
  event.preventDefault();
  key(view);
});
document.addEventListener('pointerdown', (event) => {
  if (!event.target.closest('.finder')) results.replaceChildren();
});
window.addEventListener('resize', () => {
  if (page.views[page.tab] instanceof Plan) page.views[page.tab].draw();
});

// ---- the whole ----

document.body.classList.add('model');
document.body.append(
    html('header', {}, html('div', {class: 'name'}, html('h1', {}, data.title),
                            html('p', {title: data.about}, data.about)),
         tabs, html('div', {class: 'finder'}, search, results), graphTools, schemeButton()),
    html('div', {class: 'body'}, stage, panel),
    html('footer', {}, html('kbd', {}, '/'), ' search  ', html('kbd', {}, 'click'),
         ' a scope opens or closes it  ', html('kbd', {}, '← ↑ ↓ →'), ' go from box to box  ',
         html('kbd', {}, 'Enter'), ' open  ', html('kbd', {}, 'Backspace'), ' close around  ',
         html('kbd', {}, '+ − 0'), ' zoom  ', html('kbd', {}, 'Esc'), ' select nothing'));
const wanted = location.hash.slice(1);
show(Object.hasOwn(TABS, wanted) ? wanted : data.tab);
