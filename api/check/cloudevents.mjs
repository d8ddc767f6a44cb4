// Reads the log with the official CloudEvents SDK, in pages and as a stream: every event is valid, and the same in both.
import assert from 'node:assert/strict';
import { HTTP } from 'cloudevents';

const [, , baseUrl] = process.argv;

const paged = [];
for (let next = '/events?limit=2'; next;) {
  const response = await fetch(new URL(next, baseUrl));
  const page = HTTP.toEvent({ headers: Object.fromEntries(response.headers), body: await response.text() });
  paged.push(...page);
  next = response.headers.get('link')?.match(/<([^>]+)>; rel="next"/)?.[1];
}
assert(paged.length > 2, `${paged.length} events`);

const stop = new AbortController();
const stream = await fetch(new URL('/events?after=0', baseUrl), { headers: { accept: 'text/event-stream' }, signal: stop.signal });
const streamed = [];
let text = '';
for await (const piece of stream.body.pipeThrough(new TextDecoderStream())) {
  text += piece;
  const messages = text.split('\n\n');
  text = messages.pop();
  for (const data of messages.join('\n').matchAll(/^data: (.*)$/gm)) {
    streamed.push(HTTP.toEvent({ headers: { 'content-type': 'application/cloudevents+json' }, body: data[1] }));
  }
  if (streamed.length >= paged.length) break;
}
stop.abort();

for (const event of paged) {
  assert(event.validate());
  assert.equal(event.source, '/passbook');
  assert.equal(event.dataschema, `urn:passbook:schema:${event.type}/${event.schemaversion}`);
}
assert.deepEqual(streamed.map((e) => e.toJSON()), paged.map((e) => e.toJSON()));
// More than 2^53 cents: a number would have come out as another.
assert(paged.some((e) => e.data.amount === '90071992547409.93'), 'an amount is not exact');

console.log(`cloudevents: ${paged.length} events are right, in pages and as a stream`);
