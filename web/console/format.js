// How values are shown. Amounts are strings from the API to the screen: only digits are moved, nothing is calculated
// with a Number.
import { h } from './dom.js';

const counts = new Intl.NumberFormat('en');
const rates = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

// count shows a whole number that is no amount: a position, a number of events.
export const count = (n) => counts.format(n);

// rate shows how many a second.
export const rate = (n) => (n >= 100 ? counts.format(Math.round(n)) : rates.format(n));

// amount groups the digits of a decimal, such as "-1234.50".
export function amount(decimal) {
  const [, sign, whole, rest] = /^(-?)(\d+)(\.\d+)?$/.exec(decimal) ?? [];
  if (whole === undefined) return String(decimal);
  return (sign ? '−' : '') + whole.replace(/\B(?=(\d{3})+$)/g, ',') + (rest ?? '');
}

// figure is an amount that no line break divides, with its currency if one is given.
export const figure = (decimal, currency) => h('span', { class: 'figure' }, amount(decimal), currency && ` ${currency}`);

// balances tells whether a sum of decimals of one currency is right, exactly: they are compared in the smallest unit.
export function balances(deposited, withdrawn, balance) {
  const units = (decimal) => BigInt(decimal.replace('.', ''));
  return units(deposited) - units(withdrawn) === units(balance);
}

// less subtracts decimals of one currency, exactly.
export function less(a, b) {
  const units = (decimal) => BigInt(decimal.replace('.', ''));
  const places = (a.split('.')[1] ?? '').length;
  const digits = String(units(a) - units(b)).padStart(places + 1, '0');
  return places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits;
}

// sum adds decimals of one currency, exactly.
export function sum(decimals) {
  const places = (decimals[0].split('.')[1] ?? '').length;
  const total = decimals.reduce((all, one) => all + BigInt(one.replace('.', '')), 0n);
  const digits = String(total).padStart(places + 1, '0');
  return places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits;
}

// isZero tells whether a decimal is zero.
export const isZero = (decimal) => /^-?0*(\.0*)?$/.test(decimal);

// drawn is an amount for a chart to place a point by, and for nothing else: a Number is not exact.
export const drawn = (decimal) => Number(decimal);

const two = (n) => String(n).padStart(2, '0');

// zone is the viewer's time zone at a time: +01:00, or UTC.
export function zone(t) {
  const minutes = -t.getTimezoneOffset();
  const size = Math.abs(minutes);
  return minutes === 0 ? 'UTC' : `${minutes < 0 ? '−' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

// moment shows a time of the API to the second and says its zone: the viewer's, or UTC.
export function moment(rfc3339, utc = false) {
  const t = new Date(rfc3339);
  if (utc) return `${t.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${clock(t)} ${zone(t)}`;
}

// clock shows the time of a day.
export const clock = (t) => `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;

// time is moment as an element, which knows the whole time in UTC. Only between the day and the time of day may a line break.
export function time(rfc3339, utc) {
  const [day, ...rest] = moment(rfc3339, utc).split(' ');
  return h('time', { datetime: rfc3339, title: rfc3339 }, h('span', null, day), ' ', h('span', null, rest.join(' ')));
}

// span shows a number of seconds: 0.4 s, 12 s, 3 min, 2 h.
export function span(seconds) {
  if (seconds < 10) return `${rates.format(seconds)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// short is the end of an id, for a row without room for all of it; the beginning is the time it was made at.
export const short = (id) => `…${id.slice(-8)}`;

// words turns a name such as transfer_out into what people read.
export const words = (name) => name.replaceAll('_', ' ').replace(/^./, (first) => first.toUpperCase());

// indent sets a JSON text in lines without reading its numbers, which may be larger than a Number holds.
export function indent(json) {
  let depth = 0;
  const line = () => `\n${'  '.repeat(depth)}`;
  return json.replace(/"(?:[^"\\]|\\.)*"|[^\s"[\]{},:]+|([[{])\s*([\]}])|[[\]{},:]/g, (token, open, close) => {
    if (open && close) return token;
    switch (token) {
      case '{': case '[': depth += 1; return token + line();
      case '}': case ']': depth -= 1; return line() + token;
      case ',': return token + line();
      case ':': return ': ';
      default: return token;
    }
  });
}

// named is an owner's name, or what stands for it when the person was erased.
export const named = (owner) => owner || 'Erased person';
