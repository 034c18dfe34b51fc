// What a program under Node does with a server: fetch, pools of http.Agent, streams both ways.
// Takes {"url", "size", "sha256", "file"} as its argument; prints one line of JSON
// for each check that holds. Whatever does not hold ends it with an exception.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import http from "node:http";
import { Readable } from "node:stream";

const { url, size, sha256, file } = JSON.parse(process.argv[2]);
const { readFileSync } = await import("node:fs");
const content = readFileSync(file);
const WAYS = ["list", "length", "chunked", "write", "file"];

const digest = (data) => createHash("sha256").update(data).digest("hex");
const done = (name, value) => console.log(JSON.stringify([name, value]));

function* pieces() {
  for (let start = 0; start < content.length; start += 50_000) yield content.subarray(start, start + 50_000);
}

async function fetches() {
  for (const how of WAYS) {
    const response = await fetch(`${url}/bytes/${how}?${size}`);
    assert.equal(digest(Buffer.from(await response.arrayBuffer())), sha256);
  }
  for (const body of [content, Readable.toWeb(Readable.from(pieces()))]) {
    const response = await fetch(`${url}/echo`, { method: "POST", body, duplex: "half" });
    const told = await response.json();
    assert.deepEqual([told.size, told.sha256], [size, sha256]);
    assert.equal(told.headers.TRANSFER_ENCODING, body === content ? undefined : "chunked");
  }
  assert.equal((await fetch(`${url}/empty`)).status, 204);
  assert.equal((await fetch(`${url}/entity`, { headers: { "If-None-Match": '"first"' } })).status, 304);
  assert.equal((await fetch(`${url}/bytes/list?77`, { method: "HEAD" })).headers.get("content-length"), "77");
  assert.equal(await (await fetch(`${url}/hints`)).text(), "after the hints");
  done("fetch", true);
}

async function aborts() {
  const leaving = new AbortController();
  const response = await fetch(`${url}/endless`, { signal: leaving.signal });
  const reader = response.body.getReader();
  await reader.read();
  leaving.abort();
  await assert.rejects(reader.read(), { name: "AbortError" });
  assert.equal(await (await fetch(url)).text(), "here");
  done("abort", true);
}

function ask(agent, method, target, source) {
  return new Promise((resolve, reject) => {
    const request = http.request(url + target, { agent, method }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => resolve([response, Buffer.concat(parts)]));
    });
    request.on("error", reject);
    if (source) Readable.from(source).pipe(request);
    else request.end();
  });
}

async function pool() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, number) =>
      ask(agent, "POST", `/echo?${number}`, [content.subarray(0, 1 + number * 100)]),
    ),
  );
  answers.forEach(([response, body], number) => {
    assert.equal(response.statusCode, 200);
    const told = JSON.parse(body);
    assert.deepEqual([told.target, told.size], [`/echo?${number}`, 1 + number * 100]);
  });
  const [, body] = await ask(agent, "PUT", "/echo", pieces());
  assert.equal(JSON.parse(body).sha256, sha256);
  agent.destroy();
  done("pool", new Set(answers.map(([response]) => response.headers["x-connection"])).size);
}

async function lone() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const seen = new Set();
  for (const how of WAYS) {
    const [response, body] = await ask(agent, "GET", `/bytes/${how}?${size}`);
    assert.equal(digest(body), sha256);
    seen.add(response.headers["x-connection"]);
  }
  for (const [method, target] of [["HEAD", "/entity"], ["GET", "/empty"], ["GET", "/hints"], ["GET", "/"]]) {
    const [response] = await ask(agent, method, target);
    seen.add(response.headers["x-connection"]);
  }
  agent.destroy();
  done("lone", seen.size);
}

await fetches();
await aborts();
await pool();
await lone();
