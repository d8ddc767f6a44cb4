// An account: what it has, what may be done with it, its balance over time, and its movements, statement, holds or events.
import { h, fill, put } from '../dom.js';
import { get, unarchived } from '../api.js';
import { chart } from '../chart.js';
import { buttons, changing, erasing } from '../commands.js';
import { describe } from '../events.js';
import { amount, count, drawn, figure, named, time } from '../format.js';
import { holdsOf } from '../holds.js';
import { countedKinds, kinds, ofAccount } from '../movements.js';
import { know } from '../owners.js';
import { BEHIND, badge, behind, download, filters, found as total, latest, load, note, pager, pairs, panel, period, table } from '../parts.js';
import { learn } from '../scopes.js';
import { Tail } from '../tail.js';
import { statementOf } from '../statement.js';

const TABS = [['', 'Movements', movementsOf], ['statement', 'Statement', statementOf], ['holds', 'Holds', holdsOf], ['events', 'Events', eventsOf]];

export function show({ root, parts: [id, tab], query, signal: left }) {
  const gone = new AbortController();
  const signal = AbortSignal.any([left, gone.signal]);
  const path = `/accounts/${id}${tab ? `/${tab}` : ''}`;
  const head = h('div', { class: 'account-head' });
  const actions = h('div', { class: 'commands' });
  const heading = h('h1', null, 'Account');
  const state = h('span', null);
  const live = h('span', { role: 'status' });
  const line = chart({ label: 'Balance', names: ['balance'], format: String, step: true, height: 200 });
  const past = panel('Balance over time', { tall: true });
  const pages = h('nav', { class: 'tabs', 'aria-label': 'Of this account' },
    TABS.map(([name, text]) => h('a', {
      href: `#/accounts/${id}${name && `/${name}`}`, 'aria-current': (tab ?? '') === name ? 'page' : null,
    }, text)),
    h('a', { href: `#/time-travel?account=${id}` }, 'Time travel'));
  const body = h('div');
  const lateness = h('p', { class: 'late', role: 'status', hidden: true });
  fill(root, h('div', { class: 'title' }, h('div', { class: 'named' }, heading, state, live), actions), lateness, head, past.element, pages, body);

  // On a phone the tab that is open may be out of view.
  requestAnimationFrame(() => {
    const open = pages.querySelector('[aria-current]');
    pages.scrollLeft = open.offsetLeft - pages.offsetLeft - (pages.clientWidth - open.offsetWidth) / 2;
  });

  // missing takes the place of everything when there is no such account.
  const missing = () => {
    heading.replaceChildren('No such account');
    document.title = 'No such account · Passbook';
    fill(root, heading, note('There is no account with the id ', h('code', null, id), '. If it was opened a moment ago, reload the page. ', h('a', { href: '#/accounts' }, 'Find an account')));
    heading.focus({ preventScroll: true });
    gone.abort();
  };
  const done = (receipt) => {
    refresh(receipt.position);
    heading.setAttribute('tabindex', '-1');
    heading.focus({ preventScroll: true });
  };
  const view = { id, path, signal, body, done, wait: null };
  const [, , make] = TABS.find(([name]) => name === (tab ?? ''));
  const below = make(view, query);
  const next = latest(signal);
  const nextPast = latest(signal); // a later read that finds the account unchanged leaves its history to be read
  let known = null; // what is shown of the account
  let readAt = 0; // the position of the read model that it was read at
  const refresh = (wait) => {
    readHead(wait);
    below.read();
  };
  const readHead = (wait) => {
    const now = next();
    view.wait = wait;
    load(head, now, async () => {
      let account;
      let late = null;
      try {
        ({ account, late, position: readAt } = await accountAt(id, wait, now));
      } catch (problem) {
        if (problem.status === 404 || problem.errors?.some((one) => one.parameter === 'account_id')) missing();
        throw problem;
      }
      await learn(now);
      if (late) setTimeout(() => { if (!now.aborted) readHead(wait); }, 1000);
      fill(lateness, late && ['The account is shown as of position ', count(readAt), '. ', ...behind()]);
      lateness.hidden = !late;
      know(id, account.owner);
      if (JSON.stringify(account) === JSON.stringify(known)) return [...head.childNodes];
      known = account;
      fill(heading, named(account.owner));
      document.title = `${named(account.owner)} · Passbook`;
      fill(state, badge(account.status));
      fill(actions, buttons(account, done));
      const drawing = nextPast();
      load(past.body, drawing, () => history(account, line, view, drawing));
      return facts(account, done);
    });
  };
  refresh(query.get('wait'));
  follow(id, signal, live, () => readAt, refresh);
  return { update(asked) { below.update?.(asked); } };
}

// accountAt reads the account as of a position. If the read model does not reach it soon, it is late, and the account is as it is there.
async function accountAt(id, wait, signal) {
  try {
    const { body: account, position } = await get(`/accounts/${id}`, { wait, patience: 5, signal });
    return { account, position };
  } catch (problem) {
    if (problem.code !== BEHIND) throw problem;
    const { body: account, position } = await get(`/accounts/${id}`, { signal }).catch((other) => { throw other.status === 404 ? problem : other; });
    return { account, position, late: true };
  }
}

// follow reads the account again when something has happened to it, once a second at most.
function follow(id, signal, live, readAt, refresh) {
  let timer = null;
  let upTo = 0;
  let begun = false;
  const soon = (position) => {
    upTo = Math.max(upTo, position);
    timer ??= setTimeout(() => {
      timer = null;
      if (!signal.aborted && upTo > readAt()) refresh(upTo);
    }, begun ? 200 : 1000);
  };
  const tail = new Tail({ subject: id }, {
    take: (messages) => soon(messages.at(-1).id),
    state(now, position) {
      if (signal.aborted) return;
      if (now instanceof Error) {
        fill(live, now.scope && h('span', { class: 'meta' }, `Not followed live: the key lacks the scope ${now.scope}.`));
        return;
      }
      fill(live, badge(now));
      if (now === 'live' && !begun) soon(position); // what happened between the first read and the beginning of the stream
      begun = true;
    },
  });
  signal.addEventListener('abort', () => { clearTimeout(timer); tail.end(); });
  tail.begin();
}

function facts(account, done) {
  return [
    h('div', { class: 'figures' },
      h('p', null, h('span', { class: 'meta' }, `Balance in ${account.currency}`), h('b', { class: 'value', id: 'balance' }, amount(account.balance))),
      h('p', null, h('span', { class: 'meta' }, 'Held'), h('b', { class: 'value second', id: 'held' }, amount(account.held))),
      h('p', null, h('span', { class: 'meta' }, 'Available'), h('b', { class: 'value second', id: 'available' }, amount(account.available))),
      h('p', null, h('span', { class: 'meta' }, 'Came in'), h('b', { class: 'value second' }, amount(account.deposited))),
      h('p', null, h('span', { class: 'meta' }, 'Went out'), h('b', { class: 'value second' }, amount(account.withdrawn)))),
    h('p', null, h('span', { class: 'meta' }, 'Account id '), h('code', { id: 'account-id' }, account.account_id), ' ', erasing(account, done)),
    pairs([
      ['Overdraft limit', [figure(account.overdraft_limit), ' ', changing('Change limit', 'overdraft_limit', account, done)]],
      ['Opened', time(account.opened_at)],
      account.closed_at ? ['Closed', time(account.closed_at)] : ['Last event', time(account.updated_at)],
      ['Version', count(account.version)],
      ['Position', h('a', { href: `#/log/${account.position}` }, count(account.position))],
    ]),
    h('div', { class: 'named' }, h('h2', null, 'Metadata'), Object.keys(account.metadata).length === 0 && h('span', { class: 'meta' }, 'none'), changing('Edit metadata', 'metadata', account, done)),
    Object.keys(account.metadata).length > 0 && pairs(Object.entries(account.metadata)),
  ];
}

const MOST = 2000; // movements that the chart shows

// movements reads the last movements of an account, the oldest first, and whether there are older ones.
export async function movements(id, wait, signal) {
  const found = [];
  let cursor;
  do {
    const { body } = await get(`/accounts/${id}/transactions`, { query: { limit: 500, cursor }, wait, signal });
    found.push(...body.transactions);
    cursor = body.next_cursor;
  } while (cursor && found.length < MOST);
  return { list: found.reverse(), older: Boolean(cursor) };
}

// points places movements for a chart: an account begins with nothing, unless older movements are left out.
export function points(account, { list, older }) {
  const all = list.map((one) => ({ x: Date.parse(one.recorded_at), y: drawn(one.balance), text: `${amount(one.balance)} ${account.currency}` }));
  if (!older) all.unshift({ x: Date.parse(account.opened_at), y: 0, text: `0 ${account.currency}` });
  return all;
}

// history draws the balance over time. The movements are read once; afterwards each new balance is a point more.
async function history(account, line, view, signal) {
  const found = view.past ?? await movements(account.account_id, view.wait, signal);
  if (found === view.past) found.list.push({ recorded_at: account.updated_at, balance: account.balance });
  if (found.list.length > 0) view.past = found;
  if (found.list.length === 0) return note('No money has moved yet.');
  queueMicrotask(() => line.draw([points(account, found)], { to: account.closed_at ? Date.parse(account.closed_at) : Date.now() }));
  return [line.element, found.older && h('p', { class: 'meta' }, `The last ${count(found.list.length)} movements.`)];
}

// movementsOf shows the account's movements, a page at a time; each can be reversed.
function movementsOf(view, query) {
  const { id, path, signal, body } = view;
  const search = filters(path, [
    kinds,
    period,
    { name: 'from', label: 'From', type: 'moment' },
    { name: 'to', label: 'Before', type: 'moment' },
    { name: 'sort', label: 'Order', options: [['', 'Newest first'], ['recorded_at', 'Oldest first']] },
  ], query);
  const rows = table('Movements', ofAccount(view.done), { empty: 'No movements match.' });
  const sum = h('span', { class: 'about', role: 'status' });
  const list = panel('Movements', { wide: true, actions: h('div', { class: 'choice' }, sum, download(`/accounts/${id}/transactions`, () => ({ ...wanted(), limit: 500 }), () => `movements-${id.slice(-8)}.csv`, signal)) });
  const turn = h('div', { class: 'turn' });
  fill(body, search.element, list.element, turn);
  let asked = query;
  const next = latest(signal);
  const wanted = () => ({ kind: asked.get('kind'), sort: asked.get('sort'), from: asked.get('from'), to: asked.get('to') });
  const read = (now = next()) => load(list.body, now, () => search.checked(async () => {
    const { body: page } = await get(`/accounts/${id}/transactions`, {
      query: { ...wanted(), cursor: asked.get('cursor'), limit: 20, count: true },
      wait: view.wait, signal: now,
    });
    await learn(now);
    rows.rows(page.transactions);
    put(sum, total(page, 'movement', 'movements'));
    fill(turn, pager(path, asked, page.next_cursor));
    const { from, to } = wanted();
    countedKinds(`/accounts/${id}/transactions`, { from, to }, { wait: view.wait, signal: now }).then((options) => search.offer('kind', options)).catch(() => {}); // the list says what is wrong
    return rows.element;
  }));
  return { read, update(now) { asked = now; search.set(now); read(); } };
}

// eventsOf shows the account's events from its first on, a page more at a time.
function eventsOf({ id, signal, body }) {
  const rows = table('Events', [
    { head: 'Version', cell: (event) => count(event.version) },
    { head: 'Type', class: 'lead', cell: (event) => event.type },
    { head: 'What', cell: (event) => describe(event) },
    { head: 'Recorded', cell: (event) => time(event.time) },
    { head: 'Position', num: true, cell: (event) => h('a', { href: `#/log/${event.position}` }, count(event.position)) },
  ]);
  const list = panel('Events', { wide: true, about: 'The account in the log, oldest event first.' });
  const turn = h('div', { class: 'turn' });
  fill(body, list.element, turn);
  let found = [];
  let first = 0;
  const page = async (after) => {
    const next = await unarchived({ subject: id, after, limit: 100 }, signal);
    first = next.first || first;
    found = [...found.filter((event) => event.position <= after), ...next.events];
    rows.rows(found);
    fill(turn, next.more && h('button', { type: 'button', on: { click: () => load(list.body, signal, () => page(next.position)) } }, 'Show more'),
      first > 0 && h('span', { class: 'meta' }, `The account’s events before position ${count(first)} are in the archive.`));
    return rows.element;
  };
  return { read: () => load(list.body, signal, () => page(found.at(-1)?.position ?? 0)) };
}
