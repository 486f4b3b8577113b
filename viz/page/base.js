// base.js: small helpers that all pages use.

const data = JSON.parse(document.getElementById('data').textContent);

// Make an element; attributes whose names begin with "on" are listeners, null ones are left out.
// Strings become text, so that no name is ever read as markup.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

// Put children in the place of those that an element has.
function put(element, ...children) {
  element.replaceChildren();
  return fill(element, null, children);
}

function html(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
}

// "9,999", "16.5k", "3.2M".
function count(n) {
  if (n < 9999.5) return Math.round(n).toLocaleString('en-US');
  let unit = 0;
  for (; n >= 999.95 && unit < 6; unit++) n /= 1000;
  return n.toFixed(n < 99.95 ? 1 : 0) + ' kMGTPE'[unit];
}

// "512 B", "1.5 KiB", "2.3 MiB".
function bytesText(n) {
  if (n < 1024) return Math.round(n) + ' B';
  let unit = 0;
  for (; n >= 1023.95 && unit < 5; unit++) n /= 1024;
  return n.toFixed(n < 99.95 ? 1 : 0) + ' ' + ' KMGTP'[unit] + 'iB';
}

// A number with `digits` significant digits, without an exponent where that is short.
function numberText(x, digits) {
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return x.toExponential(digits - 1);
  return String(Number(x.toPrecision(digits)));
}

// Round numbers from a to b, about n of them.
function ticks(a, b, n) {
  if (!(b > a)) return [a];
  const raw = (b - a) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((k) => k * power >= raw * 0.999) * power;
  const list = [];
  for (let k = Math.ceil(a / step - 1e-9); k * step <= b + step * 1e-9; k++) list.push(k * step + 0);  // no -0
  return list;
}

const measuring = document.createElement('canvas').getContext('2d');
const widths = new Map();

// The width of a text in pixels.
function textWidth(text, font) {
  const key = font + text;
  let width = widths.get(key);
  if (width === undefined) {
    measuring.font = font;
    width = measuring.measureText(text).width;
    widths.set(key, width);
  }
  return width;
}

// The text cut to a width, with dots where something is missing.
function shorten(text, font, width) {
  if (textWidth(text, font) <= width) return text;
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (textWidth(text.slice(0, middle) + '…', font) <= width) low = middle;
    else high = middle - 1;
  }
  return text.slice(0, low) + '…';
}

// A button that goes through the schemes: as the system says, light, dark.
function schemeButton() {
  const schemes = ['auto', 'light', 'dark'];
  let at = 0;
  const button = html('button', {
    class: 'tool', title: 'colours: as the system says, light or dark', onclick: () => {
      at = (at + 1) % schemes.length;
      if (at === 0) delete document.documentElement.dataset.scheme;
      else document.documentElement.dataset.scheme = schemes[at];
      button.textContent = '◐ ' + schemes[at];
    },
  }, '◐ auto');
  return button;
}
