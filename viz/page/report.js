// report.js: the page of a training run.

// ---- curves ----

const charts = [];

function readAll(update) {
  for (const chart of charts) chart.read(update);
}

function curvesSection() {
  if (data.panels.length === 0) {
    return html('section', {class: 'card wide'}, html('h2', {}, 'Curves'), html('p', {class: 'soft'},
        data.notes || 'There is no report yet; training writes one every train.report_every updates.'));
  }
  const updates = data.panels.flatMap(({curves}) => curves.flatMap(({x}) => x));
  const last = updates.reduce((a, b) => Math.max(a, b), 1);
  for (const panel of data.panels) charts.push(new Chart(panel, last, readAll));
  return html('div', {class: 'charts wide'}, charts.map((chart) => chart.element));
}

// ---- the head ----

function best(name, lower) {
  let found = null;
  for (const line of data.valid) {
    const value = line[name];
    if (typeof value !== 'number') continue;
    if (!found || (lower ? value < found.value : value > found.value))
      found = {value, update: line.update};
  }
  return found;
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.round(seconds)} s`;
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function tile(name, value, hint) {
  return value !== null && html('div', {class: 'tile', title: hint}, html('b', {}, value),
                                html('span', {}, name));
}

function tiles() {
  const {last} = data;
  const update = Math.max(last ? last.update : 0, data.lastSaved, 0);
  const bleu = best('bleu', false);
  const reconstruction = best('reconstruction_bleu', false);
  const nll = best('nll', true);
  const score = (found) => found && numberText(found.value, 4);
  const at = (found) => found && `at update ${count(found.update)}`;
  return html('div', {class: 'tiles wide'},
      tile('model', data.type, `vocabularies ${data.vocab.join(' and ')}`),
      tile('parameters', count(data.parameters[1]), count(data.parameters[1])),
      tile('updates of ' + count(data.maxUpdates), count(update)),
      tile('best BLEU', score(bleu), at(bleu)),
      tile('best reconstruction BLEU', score(reconstruction), at(reconstruction)),
      tile('least valid nll', score(nll), at(nll)),
      tile('target tokens/s', last && last.tokens_per_s ? count(last.tokens_per_s) : null),
      tile('training time', last && last.seconds ? duration(last.seconds) : null));
}

// ---- samples ----

// "source | translation | reference"; the text itself may have bars.
function parts(sample) {
  const list = sample.split(' | ');
  if (list.length < 3) return [sample, '', ''];
  if (list.length === 3) return list;
  const third = Math.floor(list.length / 3);
  return [list.slice(0, third).join(' | '), list.slice(third, 2 * third).join(' | '),
          list.slice(2 * third).join(' | ')];
}

// Words that the reference has, too, as many times at most, stand out.
function marked(words, reference) {
  const left = new Map();
  for (const word of reference.split(/\s+/)) left.set(word, (left.get(word) || 0) + 1);
  return words.split(/(\s+)/).map((word) => {
    const n = left.get(word) || 0;
    if (n === 0 || word.trim() === '') return word;
    left.set(word, n - 1);
    return html('mark', {}, word);
  });
}

function samplesSection() {
  const lines = data.valid.filter((line) => typeof line.sample === 'string');
  if (lines.length === 0) {
    return html('section', {class: 'card wide'}, html('h2', {}, 'Sample translations'),
        html('p', {class: 'soft'}, 'There is none yet: each validation that translates leaves one ' +
             '(train.valid_every, train.valid_decode).'));
  }
  const rows = [...lines].reverse().map((line) => {
    const [source, translation, reference] = parts(line.sample);
    const score = typeof line.bleu === 'number' ? `BLEU ${numberText(line.bleu, 4)}` : '';
    return html('tr', {class: 'sample'},
        html('td', {class: 'number'}, count(line.update), html('br'),
             html('span', {class: 'soft'}, score)),
        html('td', {}, source), html('td', {}, marked(translation, reference)),
        html('td', {}, reference));
  });
  const most = 12;
  const table = html('table', {class: 'list samples'},
      html('tr', {}, ['update', 'source', 'translation', 'reference'].map((name) =>
          html('th', {}, name))), rows);
  rows.slice(most).forEach((row) => { row.hidden = true; });
  const more = rows.length > most && html('button', {class: 'tool', onclick: (event) => {
    rows.forEach((row) => { row.hidden = false; });
    event.target.remove();
  }}, `show all ${rows.length}`);
  return html('section', {class: 'card wide'}, html('h2', {}, 'Sample translations over time'),
      html('p', {class: 'soft'}, 'One sentence of each validation, the latest first. Marked: words ' +
           'of the reference.'), table, more);
}

// ---- checkpoints ----

function checkpointsSection() {
  const names = [...new Set(data.valid.flatMap((line) => Object.keys(line)))].filter((name) =>
      !['kind', 'update', 'sample', 'seconds', 'stage', 'epoch'].includes(name) &&
      data.valid.some((line) => typeof line[name] === 'number'));
  names.sort((a, b) => b.includes('bleu') - a.includes('bleu'));
  names.splice(9);
  const rows = data.checkpoints.map(([update, bytes]) => {
    const line = data.valid.find((one) => one.update === update) || {};
    const badges = [update === data.best && 'best', update === data.lastSaved && 'last']
        .filter(Boolean).map((word) => html('span', {class: 'badge'}, word));
    return html('tr', {}, html('td', {}, `step-${update} `, badges),
        html('td', {class: 'number'}, bytesText(bytes)), names.map((name) =>
            html('td', {class: 'number'},
                 typeof line[name] === 'number' ? numberText(line[name], 4) : '')));
  });
  if (data.average) {
    rows.push(html('tr', {}, html('td', {}, 'average'), html('td', {colspan: names.length + 1,
                                                                   class: 'soft'},
        'the mean of the best checkpoints')));
  }
  return html('section', {class: 'card wide'}, html('h2', {}, 'Checkpoints'), rows.length === 0
      ? html('p', {class: 'soft'}, 'There is none yet.')
      : html('div', {class: 'scroll'}, html('table', {class: 'list'}, html('tr', {},
            html('th', {}, 'checkpoint'), html('th', {class: 'number'}, 'parameters'),
            names.map((name) => html('th', {class: 'number'}, name.replaceAll('_', ' ')))), rows)));
}

// ---- parameters and configuration ----

function parameterTree([name, elements, inside], whole, level) {
  const share = 100 * elements / Math.max(1, whole);
  const words = [html('span', {class: 'pname'}, name || 'all'),
                 html('span', {class: 'pbar'}, html('i', {style: `width:${share.toFixed(1)}%`})),
                 html('span', {class: 'number'}, count(elements))];
  if (typeof inside === 'string')
    return html('div', {class: 'leaf'}, words[0], html('span', {class: 'type'}, inside), words[2]);
  const details = html('details', {open: level === 0}, html('summary', {}, words));
  const open = () => {
    if (details.childElementCount === 1)
      details.append(...inside.map((child) => parameterTree(child, whole, level + 1)));
  };
  if (level === 0) open();
  else details.addEventListener('toggle', open);
  return details;
}

function configurationSection() {
  const lines = data.recipe.trimEnd().split('\n').map((line) => {
    const at = line.match(/^(\s*(?:- )?)([\w.]+)(:)(.*)$/);
    return at ? [at[1], html('span', {class: 'yamlkey'}, at[2]), at[3] + at[4] + '\n'] : [line + '\n'];
  });
  return html('section', {class: 'card'}, html('h2', {}, 'Configuration'),
              html('pre', {class: 'yaml'}, lines));
}

// ---- the whole ----

document.body.classList.add('report');
document.body.append(
    html('header', {}, html('h1', {}, data.title), html('span', {class: 'soft'}, 'training report'),
         schemeButton()),
    html('main', {}, tiles(), curvesSection(), samplesSection(), checkpointsSection(),
         html('section', {class: 'card'}, html('h2', {}, 'Parameters by scope'),
              html('div', {class: 'parameters'}, parameterTree(data.parameters, data.parameters[1], 0))),
         configurationSection()));

function drawAll() {
  for (const chart of charts) chart.draw();
}
drawAll();
window.addEventListener('resize', drawAll);
