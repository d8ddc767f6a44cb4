// Line charts as SVG. A chart is for the eye: it places points by Numbers, and its values are also text elsewhere on
// the page too, or in the chart's own name.
import { h, s, fill, put } from './dom.js';
import { clock, zone } from './format.js';

const PAD = { top: 10, right: 12, bottom: 22 };

// chart makes an empty chart. format makes the text of a value; step holds a value until the next one, as a balance does;
// height is in pixels.
export function chart({ label, names, format, step = false, height = 180 }) {
  const svg = s('svg', { role: 'img', 'aria-label': label, height });
  const tip = h('div', { class: 'tip', hidden: true });
  const values = names.map(() => h('b', null));
  const legend = h('div', { class: 'legend' }, names.length > 1 && names.map((name, i) => h('span', null, h('i', { class: `swatch line-${i + 1}` }), `${name} `, values[i])));
  const element = h('figure', { class: 'chart' }, h('div', { class: 'canvas' }, svg, tip), names.length > 1 && legend);
  let drawn = null;

  const redraw = () => {
    const width = Math.round(element.clientWidth);
    if (drawn && width > 0) paint(svg, width, height, drawn, { format, step });
  };
  new ResizeObserver(redraw).observe(element);
  svg.addEventListener('pointermove', (event) => point(event, svg, tip, drawn, { names, format }));
  svg.addEventListener('pointerleave', () => { tip.hidden = true; svg.querySelector('.cross')?.setAttribute('visibility', 'hidden'); });

  // draw shows series of points { x, y, text }, where x is in milliseconds of the epoch and text is shown for y if there
  // is one. from and to bound the time; mark is a time to point out.
  const draw = (series, { from, to, mark } = {}) => {
    drawn = { series, from, to, mark };
    const all = series.flat();
    if (all.length > 0) {
      const last = series.map((points) => points.at(-1)).filter(Boolean);
      const say = (point) => point.text ?? format(point.y);
      const low = all.reduce((a, b) => (b.y < a.y ? b : a));
      const high = all.reduce((a, b) => (b.y > a.y ? b : a));
      svg.setAttribute('aria-label', `${label}: now ${last.map(say).join(', ')}; lowest ${say(low)}, highest ${say(high)}`);
      if (names.length > 1) series.forEach((points, i) => put(values[i], points.length ? say(points.at(-1)) : ''));
    }
    redraw();
  };
  return { element, draw };
}

// ticks are round numbers that cover a range.
function ticks(low, high, about) {
  const raw = (high - low) / about || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = Math.max(1, [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= raw));
  const list = [];
  for (let i = Math.floor(low / size); i <= Math.ceil(high / size); i += 1) list.push(i * size);
  return list;
}

// stamp is the text of a time on an axis that spans so many milliseconds.
function stamp(x, across) {
  const t = new Date(x);
  if (across < 36e5) return clock(t);
  if (across < 2 * 864e5) return clock(t).slice(0, 5);
  return t.toLocaleDateString('en', { month: 'short', day: 'numeric' });
}

const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 2 });

function paint(svg, width, height, drawn, { step }) {
  const all = drawn.series.flat();
  const from = drawn.from ?? Math.min(...all.map((p) => p.x));
  const to = Math.max(drawn.to ?? Math.max(...all.map((p) => p.x)), from + 1000);
  const rows = ticks(Math.min(0, ...all.map((p) => p.y)), Math.max(1, ...all.map((p) => p.y)), height < 150 ? 2 : 4);
  const [low, high] = [rows[0], rows.at(-1)];
  const texts = rows.map((y) => short.format(y));
  const left = 12 + 7 * Math.max(...texts.map((text) => text.length));
  const x = (time) => left + ((time - from) / (to - from)) * (width - left - PAD.right);
  const y = (value) => height - PAD.bottom - ((value - low) / (high - low)) * (height - PAD.top - PAD.bottom);
  drawn.x = x;
  drawn.y = y;
  const columns = Math.max(1, Math.min(6, Math.floor(width / 130), Math.floor((to - from) / 1000)));
  const times = Array.from({ length: columns + 1 }, (_, i) => from + ((to - from) * i) / columns);
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  fill(svg,
    rows.map((value, i) => [
      s('line', { class: value === 0 ? 'axis' : 'grid', x1: left, x2: width - PAD.right, y1: y(value), y2: y(value) }),
      s('text', { x: left - 7, y: y(value) + 4, 'text-anchor': 'end' }, texts[i]),
    ]),
    times.map((time, i) => s('text', { x: x(time), y: height - 5, 'text-anchor': i === 0 ? 'start' : i === columns ? 'end' : 'middle' }, stamp(time, to - from))),
    drawn.series.map((points, i) => {
      if (points.length === 0) return null;
      const line = path(points, x, y, step, step ? x(to) : null);
      return [
        drawn.series.length === 1 && s('path', { class: 'area', d: `${line}V${y(Math.max(low, 0))}H${x(points[0].x)}Z` }),
        s('path', { class: `line line-${i + 1}`, d: line }),
      ];
    }),
    drawn.mark !== undefined && s('line', { class: 'mark', x1: x(drawn.mark), x2: x(drawn.mark), y1: PAD.top, y2: height - PAD.bottom }),
    s('g', { class: 'cross', visibility: 'hidden' }, s('line', { y1: PAD.top, y2: height - PAD.bottom }), drawn.series.map((_, i) => s('circle', { r: 3.5, class: `line-${i + 1}` }))));
}

function path(points, x, y, step, end) {
  let d = '';
  for (const point of points) {
    if (d === '') d = `M${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`;
    else if (step) d += `H${x(point.x).toFixed(1)}V${y(point.y).toFixed(1)}`;
    else d += `L${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`;
  }
  return end === null ? d : `${d}H${end.toFixed(1)}`;
}

// point shows the values beneath the pointer.
function point(event, svg, tip, drawn, { names, format }) {
  if (!drawn?.x || drawn.series.every((points) => points.length === 0)) return;
  const across = event.clientX - svg.getBoundingClientRect().left;
  const found = drawn.series.map((points) => before(points, across, drawn.x));
  const anchor = found.find(Boolean);
  if (!anchor) return;
  const cross = svg.querySelector('.cross');
  cross.setAttribute('visibility', 'visible');
  cross.firstChild.setAttribute('x1', drawn.x(anchor.x));
  cross.firstChild.setAttribute('x2', drawn.x(anchor.x));
  found.forEach((one, i) => {
    cross.children[i + 1].setAttribute('cx', one ? drawn.x(one.x) : -9);
    cross.children[i + 1].setAttribute('cy', one ? drawn.y(one.y) : -9);
  });
  const when = new Date(anchor.x);
  fill(tip, h('span', { class: 'meta' }, `${when.toLocaleDateString('en', { month: 'short', day: 'numeric' })} ${clock(when)} ${zone(when)}`),
    found.map((one, i) => one && h('span', null, names.length > 1 ? `${names[i]} ` : '', h('b', null, one.text ?? format(one.y)))));
  tip.hidden = false;
  const room = svg.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(0, Math.min(drawn.x(anchor.x) + 12, room))}px`;
}

// before is the last point at or left of a place, or the first.
function before(points, across, x) {
  let found = points[0];
  for (const one of points) {
    if (x(one.x) > across) break;
    found = one;
  }
  return found;
}
