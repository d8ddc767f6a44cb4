// Moments and days as people type them. A moment is of the browser's time zone unless it says another; in addresses it is in UTC,
// so that a link means the same everywhere. Days are those of UTC.
import { moment } from './format.js';

const MOMENT = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?)?\s*(Z|UTC|[+-]\d\d:\d\d)?$/i;
const DAY = /^\d{4}-\d\d-\d\d$/;

// readMoment is the moment as the API takes it. A day alone is its beginning. It throws a problem of the field if it is none.
export function readMoment(text, field) {
  if (text === '') return undefined;
  const [, day, time = '00:00', seconds = '', zone = ''] = MOMENT.exec(text) ?? [];
  const read = new Date(`${day}T${time}${seconds}${zone.toUpperCase().replace('UTC', 'Z')}`);
  if (Number.isNaN(read.getTime())) throw refusal(field, 'must be a day and a time, such as 2026-01-31 14:30');
  return read.toISOString();
}

// readDay is a day, or undefined.
export function readDay(text, field) {
  if (text === '') return undefined;
  if (!DAY.test(text) || Number.isNaN(new Date(text).getTime())) throw refusal(field, 'must be a day, such as 2026-01-31');
  return text;
}

// writeMoment is a moment of an address as it can be read again, in the browser's time zone; what is no moment stays as it is.
export function writeMoment(rfc3339) {
  const t = new Date(rfc3339);
  if (Number.isNaN(t.getTime())) return rfc3339;
  const [day, clock] = moment(rfc3339).split(' ');
  return `${day} ${clock.replace(/:00$/, '')}`;
}

const day = (t) => [t.getFullYear(), t.getMonth() + 1, t.getDate()].map((n) => String(n).padStart(2, '0')).join('-');

// periods are those that people ask for, as the first day and the day after the last one. Days are those of UTC, or else of the
// browser's time zone.
export function periods(utc) {
  const now = new Date();
  const [y, m, d] = utc ? [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()] : [now.getFullYear(), now.getMonth(), now.getDate()];
  const at = (...parts) => day(new Date(...parts));
  return [
    ['Today', at(y, m, d), at(y, m, d + 1)], ['Yesterday', at(y, m, d - 1), at(y, m, d)],
    ['Last 7 days', at(y, m, d - 6), at(y, m, d + 1)], ['Last 30 days', at(y, m, d - 29), at(y, m, d + 1)],
    ['This month', at(y, m, 1), at(y, m + 1, 1)], ['Last month', at(y, m - 1, 1), at(y, m, 1)],
    ['This year', at(y, 0, 1), at(y + 1, 0, 1)], ['Last year', at(y - 1, 0, 1), at(y, 0, 1)],
  ];
}

// before is the day before a day.
export function before(text) {
  const [y, m, d] = text.split('-').map(Number);
  return day(new Date(y, m - 1, d - 1));
}

// today is the day that it is.
export const today = (utc) => (utc ? new Date().toISOString().slice(0, 10) : day(new Date()));

function refusal(field, detail) {
  return { title: 'The time cannot be read', status: 400, message: `The time ${detail}.`, errors: [{ pointer: `/${field}`, detail }] };
}
