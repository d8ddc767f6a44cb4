// The public API, and the only place that speaks to it.
import { authorization, askForKey, forgetKey } from './key.js';

// Problem is a problem document (RFC 9457), or a request without a response (status 0).
export class Problem extends Error {
  constructor(body, answer) {
    super(body.detail ?? body.title ?? 'The request was refused');
    this.title = body.title ?? 'The request was refused';
    this.status = body.status ?? 0;
    this.code = body.code ?? '';
    this.errors = body.errors ?? [];
    this.first = body.first_position ?? 0; // of events-archived
    this.requestID = body.request_id ?? '';
    // RFC 6750: a 403 names the scope that the key lacks.
    this.scope = /scope="([^"]+)"/.exec(answer?.headers.get('WWW-Authenticate') ?? '')?.[1] ?? '';
  }

  // unsettled tells that the outcome is unknown: retried with its key, the request is applied once.
  get unsettled() {
    return this.status === 0 || this.status >= 500 || this.code === 'idempotency-key-in-flight';
  }
}

const NO_KEY = { title: 'A key is needed', status: 401, detail: 'This server requires an API key.' };
const UNREACHABLE = {
  title: 'The server cannot be reached', detail: 'There was no response. It may be restarting, or the network is down.',
};

// parse reads JSON. A whole number of 16 digits or more stays a string, because a Number would change it.
export function parse(text) {
  const exact = text.replace(/"(?:[^"\\]|\\.)*"|-?[\d.]+(?:[eE][+-]?\d+)?/g, (token) => (/^-?\d{16,}$/.test(token) ? `"${token}"` : token));
  return JSON.parse(exact);
}

// BASE is where a proxy mounts the service: this file is BASE/console/api.js.
const BASE = new URL('..', import.meta.url).pathname.replace(/\/$/, '');

function address(path, query) {
  const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return BASE + (pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs)}`);
}

async function exchange(method, path, { query, body, headers, signal } = {}) {
  const sent = { Accept: 'application/json', ...headers };
  if (body !== undefined) sent['Content-Type'] = 'application/json';
  let answer;
  let lost = 0;
  for (;;) {
    const credential = authorization();
    try {
      answer = await fetch(address(path, query), {
        method, signal, credentials: 'same-origin', body: body === undefined ? undefined : JSON.stringify(body),
        headers: credential ? { ...sent, Authorization: credential } : sent,
      });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      lost += 1;
      if (method !== 'GET' || lost > 1) throw new Problem(UNREACHABLE);
      // A browser that goes back and forth fast also cancels requests of the page that it ends on.
      await new Promise((resolve) => { setTimeout(resolve, 100); });
      continue;
    }
    if (answer.status !== 401) break;
    // Another request may have asked for a key meanwhile.
    if (credential === authorization()) {
      forgetKey();
      if (!await askForKey(credential !== null)) throw new Problem(NO_KEY);
    }
  }
  if (!answer.ok) throw new Problem(await refusal(answer), answer);
  return answer;
}

async function refusal(answer) {
  try {
    return { status: answer.status, ...parse(await answer.text()) };
  } catch {
    return { status: answer.status, title: `The server returned ${answer.status}` };
  }
}

// get reads a path. wait is a position: the read waits until it has been applied, for so many seconds of patience.
export async function get(path, { query, wait, patience = 20, signal } = {}) {
  const answer = await exchange('GET', path, {
    query: { ...query, min_position: wait }, signal, headers: wait ? { Prefer: `wait=${patience}` } : undefined,
  });
  return { body: parse(await answer.text()), position: Number(answer.headers.get('Passbook-Position')), more: answer.headers.has('Link') };
}

// health reads /readyz, whose 503 is a result, not a problem. It needs no key, so none is asked for; with one it
// says more.
export async function health(signal) {
  const credential = authorization();
  try {
    return parse(await (await fetch(address('/readyz'), { signal, headers: credential ? { Authorization: credential } : {} })).text());
  } catch (error) { // no response, or one of a proxy
    if (error.name === 'AbortError') throw error;
    throw new Problem(UNREACHABLE);
  }
}

// send runs a command or another change. key is its Idempotency-Key, version the one that the account must still have. A dry
// run takes no key.
export async function send(method, path, { body, key, version, dryRun, signal } = {}) {
  const headers = {};
  if (key && !dryRun) headers['Idempotency-Key'] = key;
  if (version !== undefined) headers['If-Match'] = `"${version}"`;
  const answer = await exchange(method, path, { body, signal, headers, query: dryRun ? { dry_run: true } : undefined });
  return parse(await answer.text());
}

// csv reads a page of a path as CSV, and the cursor of the next page. It is fetched rather than linked to, because a link cannot send
// the key.
export async function csv(path, { query, signal } = {}) {
  const answer = await exchange('GET', path, { query, signal, headers: { Accept: 'text/csv, application/problem+json' } });
  const [, next] = /<([^>]*)>; rel="next"/.exec(answer.headers.get('Link') ?? '') ?? [];
  return { text: await answer.text(), next: next ? new URL(next, location).searchParams.get('cursor') : null };
}

// batch reads a page of the log with the original text of each event, so that no number is changed.
export async function batch(query, signal) {
  const answer = await exchange('GET', '/events', { query, signal, headers: { Accept: 'application/cloudevents-batch+json' } });
  return { events: parse(await answer.text()), position: Number(answer.headers.get('Passbook-Position')), more: answer.headers.has('Link') };
}

// unarchived is batch, but leaves out what is in the archive: first is then the position of the first event that is not, and 0 otherwise.
export async function unarchived(query, signal) {
  try {
    return { ...(await batch(query, signal)), first: 0 };
  } catch (problem) {
    if (problem.code !== 'events-archived') throw problem;
    return { ...(await batch({ ...query, after: problem.first - 1 }, signal)), first: problem.first };
  }
}

// checkpoint reads the latest signed checkpoint of the log, as text.
export async function checkpoint(signal) {
  return (await exchange('GET', '/log/checkpoint', { signal, headers: { Accept: 'text/plain, application/problem+json' } })).text();
}

// raw reads one event of the log as the text that the server sent, or null when the log does not reach that far.
export async function raw(position, signal) {
  try {
    const answer = await exchange('GET', '/events', { query: { after: position - 1, limit: 1 }, signal, headers: { Accept: 'application/cloudevents-batch+json' } });
    const text = (await answer.text()).trim();
    return text === '[]' ? null : text.slice(1, -1);
  } catch (error) {
    if (error.code === 'log-went-back') return null;
    throw error;
  }
}

// stream follows the log. An EventSource cannot send an Authorization header, so the response is read as it arrives.
// It returns the position it begins after and the messages, as { id, text }; it ends with the connection.
export async function stream(query, { lastEventID, signal }) {
  const headers = { Accept: 'text/event-stream, application/problem+json' };
  if (lastEventID !== undefined) headers['Last-Event-ID'] = String(lastEventID);
  const answer = await exchange('GET', '/events', { query, headers, signal });
  return { position: Number(answer.headers.get('Passbook-Position')), messages: messages(answer.body) };
}

// messages reads server-sent events as far as this server sends them: whole lines, ended by a line feed.
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let message = {};
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (message.last) throw new Problem(parse(message.text));
        if (message.id !== undefined) yield message;
        message = {};
      } else if (line.startsWith('id: ')) {
        message.id = Number(line.slice(4));
      } else if (line === 'event: log-went-back' || line === 'event: events-archived') {
        message.last = true;
      } else if (line.startsWith('data: ')) {
        message.text = line.slice(6);
      }
    }
  }
}
