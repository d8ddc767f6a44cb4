// Parts that pages have in common: panels, tables, badges, states, and reading again and again.
import { Problem, csv } from './api.js';
import { h, fill, newID, put, toast } from './dom.js';
import { accountIn, clear, fields, mark, value } from './form.js';
import { count } from './format.js';
import { before, periods, readMoment, today, writeMoment } from './moments.js';

// panel is a section with a heading. What it shows goes into body; a tall one keeps room for a chart.
export function panel(title, { about, actions, wide, tall } = {}) {
  const id = newID('panel');
  const body = h('div', { class: 'panel-body' });
  const element = h('section', { class: ['panel', wide && 'wide', tall && 'tall'], 'aria-labelledby': id },
    h('div', { class: 'panel-head' }, h('h2', { id }, title), about && h('p', { class: 'about' }, about), actions), body);
  return { element, body };
}

// badge shows a state in a word, with a colour that only underlines it.
export function badge(state) {
  const tones = {
    active: 'good', running: 'good', completed: 'good', ok: 'good', live: 'good', open: 'good', delivered: 'good',
    suspended: 'warn', paused: 'warn', cancelled: 'warn', reconnecting: 'warn',
    halted: 'bad', failed: 'bad', unavailable: 'bad', parked: 'bad', disabled: 'bad', failing: 'bad',
  };
  return h('span', { class: ['badge', tones[state] ?? 'plain'] }, state);
}

// action is a button that does nothing while it is disabled. allow lets it be used, or disables it and says why in the paragraph that
// describes it.
export const action = (text, run, properties) => h('button', {
  type: 'button', ...properties, on: { click: ({ currentTarget }) => { if (currentTarget.getAttribute('aria-disabled') !== 'true') run(); } },
}, text);

export function allow(button, why, reason) {
  reason.hidden = !why;
  put(reason, why ?? '');
  button.title = why ?? '';
  if (why) {
    button.setAttribute('aria-disabled', 'true');
    button.setAttribute('aria-describedby', reason.id);
  } else {
    button.removeAttribute('aria-disabled');
    button.removeAttribute('aria-describedby');
  }
}

// note is the text shown where there is nothing else to show.
export const note = (text, ...more) => h('p', { class: 'state' }, text, more);

// trouble shows a problem in place of what could not be read. A key that is too narrow stays so: it is not tried again.
export function trouble(problem, again) {
  const scope = problem.status === 403 && problem.scope;
  if (scope) return h('p', { class: 'state', role: 'alert' }, 'The key lacks the scope ', h('code', null, scope), '.');
  return h('div', { class: 'state bad', role: 'alert' },
    h('p', null, h('strong', null, problem.title ?? 'Something went wrong')),
    !problem.code?.endsWith('-not-found') && h('p', null, problem.code === BEHIND ? behind() : problem.message),
    problem.requestID && h('p', { class: 'meta' }, `Request ${problem.requestID}`),
    again && h('button', { type: 'button', on: { click: again } }, 'Try again'));
}

// BEHIND is the code of a read that has waited in vain for what was recorded last, and behind says so to people.
export const BEHIND = 'projection-behind';
export const behind = () => ['What was recorded last is not in it yet. It appears here as soon as it is. ', h('a', { href: '#/projections' }, 'See the projections')];

// report logs an error that is not a response of the server to the browser's console: it is a bug of the page.
function report(error, signal) {
  if (!(error instanceof Problem) && !signal.aborted) console.error(error);
}

const AGAIN = 2000; // milliseconds until what could not be read is read again
const loads = new WeakMap(); // the last load of each region

// load fills a region with what make returns, and shows a problem there instead if it throws one. While the server is unavailable it
// tries again. shown is the problem that is on the page already.
export async function load(region, signal, make, shown) {
  const turn = Symbol('load');
  loads.set(region, turn);
  region.setAttribute('aria-busy', 'true');
  try {
    const made = await make();
    if (!signal.aborted) fill(region, made);
  } catch (error) {
    report(error, signal);
    if (!signal.aborted) {
      if (error.message !== shown) fill(region, trouble(error, () => load(region, signal, make)));
      if ([0, 502, 503, 504].includes(error.status)) {
        setTimeout(() => { if (!signal.aborted && loads.get(region) === turn) load(region, signal, make, error.message); }, AGAIN);
      }
    }
  }
  if (!signal.aborted) region.removeAttribute('aria-busy');
}

// latest returns a signal for each call and aborts the previous one, so that a late response is not shown.
export function latest(signal) {
  let turn = null;
  return () => {
    turn?.abort();
    turn = new AbortController();
    return AbortSignal.any([signal, turn.signal]);
  };
}

// every runs a task now and again so many milliseconds after it has ended, until signal; not while the tab is hidden. After a
// failure it says so on the page, also to lost, and continues, but a refusal (4xx) ends it and is passed to refused.
export function every(milliseconds, signal, task, refused, lost) {
  let timer = null;
  const stale = new StaleNote();
  async function turn() {
    timer = null;
    let next = milliseconds;
    try {
      if (!document.hidden) await task();
      stale.end();
    } catch (error) {
      report(error, signal);
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500) {
        refused(error);
        return;
      }
      stale.begin(error);
      lost?.(error);
      next = Math.max(milliseconds, 2000);
    }
    if (!signal.aborted) timer = setTimeout(turn, next);
  }
  signal.addEventListener('abort', () => { clearTimeout(timer); stale.end(); });
  turn();
  return () => { // at once, unless it runs right now
    if (timer !== null) {
      clearTimeout(timer);
      turn();
    }
  };
}

// StaleNote says at the edge of the screen that the data shown is getting old.
class StaleNote {
  begin(error) {
    if (this.element) return;
    this.element = h('div', { class: 'stale', role: 'alert' }, h('strong', null, error.title ?? 'Something went wrong'), ' The data shown may be out of date. Retrying.');
    document.body.append(this.element);
  }

  end() {
    this.element?.remove();
    this.element = null;
  }
}

// table is a table that turns into cards where there is no room for it, and keeps its roles there. A column has a head,
// and a cell that makes the content of a row; num is for numbers, and money for amounts, which are never broken.
export function table(label, columns, { empty = 'Nothing here yet.', key } = {}) {
  const body = h('tbody', { role: 'rowgroup' });
  const nothing = note(empty);
  nothing.hidden = true;
  const element = h('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: '0' },
    h('table', { role: 'table', 'aria-label': label },
      h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map((column) => h('th', { role: 'columnheader', scope: 'col', class: (column.num || column.money) && 'num' }, column.head)))), body), nothing);
  const cell = (column, content) => h('td', {
    role: 'cell', 'data-label': column.head, class: [column.num && 'num', column.money && 'num money', column.class, content === '–' && 'nothing'],
  }, h('span', null, content));
  const row = (item) => h('tr', { role: 'row', 'data-key': key?.(item) }, columns.map((column) => cell(column, column.cell(item))));
  const rows = (items) => {
    fill(body, items.map(row));
    nothing.hidden = items.length > 0;
    element.firstChild.hidden = items.length === 0;
  };
  return { element, rows, row, body };
}

// pairs is a list of names and values.
export function pairs(list) {
  return h('dl', { class: 'pairs' }, list.filter(Boolean).map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))));
}

// period is the field that fills in from and to, which are moments, or days of UTC.
export const period = { name: 'period', label: 'Period', type: 'period', options: [['', 'Any time'], ...periods().map(([name]) => [name, name]), ['custom', 'Custom']] };

// ends are what the fields from and to have in a period. Its end is left open if it is still to come, unless all of it is asked for.
function ends(name, utc, all) {
  const [, from, to] = periods(utc).find(([known]) => known === name) ?? [name, '', ''];
  return { from, to: to > today(utc) && !all ? '' : utc && to ? before(to) : to };
}

// periodOf is the period that the query of an address has; the one that is chosen, if it is that one.
function periodOf(chosen, now, utc) {
  const [from, to] = [now.get('from') ?? '', now.get('to') ?? ''];
  const read = (text) => (utc ? text : readMoment(text, 'from') ?? '');
  const same = (name) => name !== 'custom' && [false, true].some((all) => read(ends(name, utc, all).from) === from && read(ends(name, utc, all).to) === to);
  return [chosen, '', ...periods(utc).map(([name]) => name)].find(same) ?? 'custom';
}

const FEW = 4; // filters that are never folded

// filters is a form of filters which is applied as it is changed, by a new query of the address. checked is for what reads
// by them: a problem that it throws is shown beside the filter concerned too.
export function filters(path, list, query) {
  const made = fields(list.map((one) => ({ ...one, plain: true, picked: () => apply() })));
  const { inputs, pickers } = made;
  const utc = list.some((one) => one.type === 'day');
  const refused = (problem) => {
    mark(problem, made);
    if (element.querySelector('[aria-invalid]')) unfold(true);
  };
  const apply = async () => {
    const asked = new URLSearchParams();
    await Promise.all([...pickers.values()].map((one) => one.settled()));
    clear(made);
    try {
      for (const field of list.filter((one) => one.type !== 'period')) {
        const found = pickers.has(field.name) ? accountIn(field, pickers) : value(field, inputs.get(field.name));
        if (found) asked.set(field.name, found);
      }
    } catch (problem) {
      refused(problem);
      return;
    }
    const text = asked.toString();
    location.hash = text ? `${path}?${text}` : path;
  };
  function change({ target }) {
    if (target.name === 'period' && target.value === 'custom') {
      inputs.get('from').focus();
      return;
    }
    if (target.name === 'period') for (const [name, text] of Object.entries(ends(target.value, utc))) inputs.get(name).value = text;
    apply();
  }
  // Many filters are folded behind a button where they would take the whole screen.
  const many = list.length > FEW;
  const fold = h('button', { type: 'button', class: 'fold', 'aria-expanded': 'false', on: { click: () => unfold(fold.getAttribute('aria-expanded') === 'false') } }, 'Filters');
  const unfold = (open) => {
    element.classList.toggle('folded', many && !open);
    fold.setAttribute('aria-expanded', String(open));
  };
  const element = h('form', { class: ['filters', many && 'folded'], role: 'search', 'aria-label': 'Filters', on: { submit(event) { event.preventDefault(); apply(); }, change } },
    many && fold, made.elements, h('button', { type: 'submit', class: 'visually-hidden' }, 'Apply'));
  const set = (now) => {
    const active = list.filter(({ name, type }) => type !== 'period' && name !== 'sort' && now.get(name)).length;
    put(fold, active > 0 ? `Filters (${active})` : 'Filters');
    if (inputs.has('period')) inputs.get('period').value = periodOf(inputs.get('period').value, now, utc);
    for (const { name, type } of list.filter((one) => one.type !== 'period')) {
      const input = inputs.get(name);
      const asked = now.get(name) ?? '';
      if (pickers.has(name)) {
        if (document.activeElement !== input) pickers.get(name).set(asked);
        continue;
      }
      if (input.matches('select') && ![...input.options].some((one) => one.value === asked)) input.append(h('option', { value: asked }, asked));
      if (document.activeElement !== input) input.value = type === 'moment' ? writeMoment(asked) : asked;
    }
  };
  const checked = async (read) => {
    clear(made);
    try {
      return await read();
    } catch (error) {
      refused(error);
      throw error;
    }
  };
  // offer replaces the choices of a filter, and keeps what is chosen.
  const offer = (name, options) => {
    const input = inputs.get(name);
    const { value: chosen } = input;
    if (options.map(([option]) => option).join() === [...input.options].map((option) => option.value).join()) {
      options.forEach(([, text], i) => put(input.options[i], text)); // it may be open
      return;
    }
    fill(input, options.map(([option, text]) => h('option', { value: option }, text)), !options.some(([option]) => option === chosen) && h('option', { value: chosen }, chosen));
    input.value = chosen;
  };
  set(query);
  return { element, set, checked, offer };
}

// inCurrencies are the choices of a currency: those that there are accounts in, with how many.
export const inCurrencies = (totals) => [['', 'Any'], ...totals.map((total) => [total.currency, `${total.currency} (${count(total.accounts)})`])];

const PAGES = 20; // of 500 rows, in a download

// download is a button that saves what a path gives as CSV, all of its pages. query and name are functions, called when it is used.
export function download(path, query, name, signal) {
  const button = h('button', { type: 'button', class: 'small', on: { click: save } }, 'Download as CSV');
  async function save() {
    if (button.getAttribute('aria-disabled') === 'true') return;
    button.setAttribute('aria-disabled', 'true');
    button.classList.add('busy');
    try {
      const texts = [];
      let next = null;
      do {
        const page = await csv(path, { query: { ...query(), ...(next ? { cursor: next } : {}) }, signal });
        texts.push(next ? page.text.slice(page.text.indexOf('\r\n') + 2) : page.text); // the head is there once
        next = page.next;
      } while (next && texts.length < PAGES);
      const url = URL.createObjectURL(new Blob(texts, { type: 'text/csv' }));
      h('a', { href: url, download: name() }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      if (next) toast(`The file has the first ${count(PAGES * 500)} rows only. Narrow the filters for the rest.`);
    } catch (problem) {
      if (!signal.aborted) toast(`${problem.title}. ${problem.message}`);
    } finally {
      button.removeAttribute('aria-disabled');
      button.classList.remove('busy');
    }
  }
  return button;
}

// found says how many there are on all pages of a list.
export const found = ({ total, total_exceeds: more }, one, many) => `${more ? 'At least ' : ''}${count(total)} ${total === 1 && !more ? one : many}`;

// pager leads through pages of a cursor. A cursor leads forward only; the way back is the browser's.
export function pager(path, query, next) {
  const link = (cursor, text) => {
    const asked = new URLSearchParams(query);
    asked.delete('cursor');
    if (cursor) asked.set('cursor', cursor);
    const tail = asked.toString();
    return h('a', { class: 'button', href: `#${path}${tail ? `?${tail}` : ''}` }, text);
  };
  if (!next && !query.get('cursor')) return null;
  return h('nav', { class: 'pager', 'aria-label': 'Result pages' },
    query.get('cursor') && link(null, 'First page'), next && link(next, 'Next page'));
}
