// Each example, run as its first line says, against the gateway that DIPLEX_ADDRESS names.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { call, models } from "../gateway.js";

const run = promisify(execFile);
const FOLDER = fileURLToPath(new URL("..", import.meta.url));
const example = (...words) => run(process.execPath, words, { cwd: FOLDER, timeout: 100_000 });

/** Sequences that the loaded models' slots hold now. */
async function busySlots(client) {
  const { models: known } = await call(client, "ListModels", {});
  return known.flatMap((model) => model.deployments).reduce((sum, each) => sum + (each.slots?.busy ?? 0), 0);
}

test("a whole answer", async () => {
  const { stdout, stderr } = await example("generate.js", "What is the capital of France?");
  assert.match(stdout, /Paris/);
  assert.match(stderr, /^FINISH_REASON_\w+, \d+ tokens by \S/);
});

test("a stream", async () => {
  const { stdout, stderr } = await example("stream.js", "What is the capital of France?");
  assert.ok(stdout.length > 0);
  assert.match(stderr, /^SmolLM2-135M-Instruct on \S+\n\nFINISH_REASON_\w+\n\d+ tokens, \d+ a second\n$/);
});

test("a picture", async () => {
  const { stdout, stderr } = await example("image.js", process.env.PICTURE);
  assert.match(stdout, new RegExp(process.env.PICTURE_SHOWS));
  assert.match(stderr, /^[1-9]\d* tokens of the prompt/);
});

test("a cancelled stream, whose slot is free then", async () => {
  const { stdout } = await example("cancel.js");
  assert.ok(stdout.length > 80 && stdout.length < 1000, `${stdout.length} characters`);
  const client = models();
  const until = Date.now() + 10_000; // thousands of tokens would take longer
  while ((await busySlots(client)) > 0) assert.ok(Date.now() < until, "a slot is still in use");
  client.close();
});

test("a refusal with its details", async () => {
  const { stdout, stderr } = await example("errors.js");
  const [first, ...fields] = stdout.trim().split("\n");
  assert.equal(first, "INVALID_ARGUMENT INVALID_REQUEST");
  assert.deepEqual(fields.map((line) => line.split(":")[0]).sort(), ["sampling.temperature", "stopping.max_tokens"]);
  assert.match(stderr, /^request \S{8,}/);
});

test("a deadline", async () => {
  const { stdout, stderr } = await example("deadline.js");
  assert.match(stdout, /^(DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED DEADLINE_UNREACHABLE)/);
  const [, seconds] = /^after ([\d.]+) s/.exec(stderr);
  assert.ok(Number(seconds) < 5, `it took ${seconds} s`);
});

test("nobody answers", async () => {
  const env = { ...process.env, DIPLEX_ADDRESS: "unix:/nowhere" };
  const code = "import { call, generation } from './gateway.js'; await call(generation(), 'Generate', {prompt: 'Hi'})";
  const failed = await run(process.execPath, ["--input-type=module", "--eval", code], { cwd: FOLDER, env }).catch((e) => e);
  assert.match(failed.stderr, /UNAVAILABLE/);
});
