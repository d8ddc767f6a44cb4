// Overview: how busy the log is, how far the projections are behind, the totals, and what is unhealthy.
import { h, fill, put } from '../dom.js';
import { get, health } from '../api.js';
import { chart } from '../chart.js';
import { amount, balances, count, rate, span } from '../format.js';
import { badge, every, note, panel, table, trouble } from '../parts.js';

const KEEP = 120; // seconds that the charts show

function tile(name) {
  const value = h('p', { class: 'value' }, '–');
  const about = h('p', { class: 'meta' }, ' ');
  return { element: h('div', { class: 'tile' }, h('h2', null, name), value, about), set(a, b) { put(value, a); put(about, b); } };
}

export function show({ root, signal }) {
  const tiles = { events: tile('Events a second'), head: tile('Head of the log'), lag: tile('Furthest behind'), accounts: tile('Active accounts') };
  const events = panel('Events a second', { about: 'During the last second.', tall: true });
  const lag = panel('Projection lag', { about: 'Events not applied yet.', tall: true });
  const totals = panel('Totals', { about: 'The trial balance, by currency.', wide: true });
  const parts = panel('Health', { about: 'The current state of every component.', wide: true });
  fill(root,
    h('h1', null, 'Overview'),
    h('div', { class: 'tiles' }, Object.values(tiles).map((one) => one.element)),
    h('div', { class: 'columns' }, events.element, lag.element, totals.element, parts.element));
  followStats(events.body, tiles, signal);
  followProjections(lag.body, tiles, signal);
  followTotals(totals.body, signal);
  followHealth(parts.body, signal);
}

// keep adds a point and drops those that are too old.
function keep(points, y, now) {
  points.push({ x: now, y });
  while (points[0].x < now - KEEP * 1000) points.shift();
}

// since is where a chart begins: at its first point, but 20 seconds back at least.
const since = (points, now) => Math.min(points[0].x, now - 20_000);

function followStats(body, tiles, signal) {
  const line = chart({ label: 'Events a second', names: ['events a second'], format: rate });
  const points = [];
  fill(body, line.element);
  every(1000, signal, async () => {
    const { body: stats } = await get('/stats', { signal });
    const now = Date.now();
    keep(points, stats.events_per_second.last_1s, now);
    line.draw([points], { from: since(points, now), to: now });
    tiles.events.set(rate(stats.events_per_second.last_1s), `${rate(stats.events_per_second.last_10s)} over 10 s, ${rate(stats.events_per_second.last_60s)} over 60 s`);
    tiles.accounts.set(count(stats.accounts.active), `${count(stats.accounts.suspended)} suspended, ${count(stats.accounts.closed)} closed`);
  }, (problem) => fill(body, trouble(problem)));
}

function followProjections(body, tiles, signal) {
  let line = null;
  let points = null;
  every(1000, signal, async () => {
    const { body: { projections } } = await get('/projections', { signal });
    if (!line) {
      line = chart({ label: 'Projection lag in events', names: projections.map((one) => one.id), format: count });
      points = projections.map(() => []);
      fill(body, line.element);
    }
    const now = Date.now();
    projections.forEach((one, i) => keep(points[i], one.lag, now));
    line.draw(points, { from: since(points[0], now), to: now });
    const last = projections.reduce((a, b) => (b.lag > a.lag ? b : a));
    tiles.head.set(count(last.head), 'events ever recorded');
    tiles.lag.set(count(last.lag), last.lag === 0 ? 'all projections are up to date' : `${last.id}, by ${span(last.lag_seconds)}`);
  }, (problem) => fill(body, trouble(problem)));
}

function followTotals(body, signal) {
  const rows = table('Totals by currency', [
    { head: 'Currency', cell: (total) => h('b', null, total.currency) },
    { head: 'Accounts', num: true, cell: (total) => count(total.accounts) },
    { head: 'Deposited', money: true, cell: (total) => amount(total.deposited) },
    { head: 'Withdrawn', money: true, cell: (total) => amount(total.withdrawn) },
    { head: 'Balance', money: true, cell: (total) => h('b', null, amount(total.balance)) },
    { head: 'Adds up', cell: (total) => badge(balances(total.deposited, total.withdrawn, total.balance) ? 'ok' : 'failed') },
  ], { empty: 'No account has been opened yet.' });
  fill(body, rows.element);
  let shown = '';
  every(2000, signal, async () => {
    const { body: { totals } } = await get('/totals', { signal });
    if (JSON.stringify(totals) !== shown) rows.rows(totals);
    shown = JSON.stringify(totals);
  }, (problem) => fill(body, trouble(problem)));
}

function followHealth(body, signal) {
  const list = h('ul', { class: 'checks' });
  fill(body, list);
  let shown = '';
  every(2000, signal, async () => {
    const state = await health(signal);
    const checks = state.checks ?? [];
    if (JSON.stringify(checks) === shown) return;
    shown = JSON.stringify(checks);
    fill(list, checks.map((check) => h('li', null, badge(standing(check)), h('span', null, h('b', null, check.name), ' ', check.detail))));
    if (checks.length === 0) fill(list, note('The server reports no components.'));
  }, (problem) => fill(body, trouble(problem)));
}

// standing is the state of a part in a word: of a projection its own, when the check names it.
function standing(check) {
  const [first] = (check.detail ?? '').split(' ');
  if (!check.ok) return 'failed';
  return first === 'paused' || first === 'halted' ? first : 'ok';
}
