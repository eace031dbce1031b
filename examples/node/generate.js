// node generate.js "What is the capital of France?"
//
// One question, the whole answer at once; tried again while no gateway or worker is there.

import { retrying } from "./details.js";
import { call, generation } from "./gateway.js";

const client = generation();
const request = {
  chat: { messages: [{ role: "ROLE_USER", parts: [{ text: process.argv[2] ?? "What is the capital of France?" }] }] },
  sampling: { temperature: 0 },
  stopping: { max_tokens: 40 },
};
const answer = await retrying(() => call(client, "Generate", request));

const [choice] = answer.choices;
const { usage, worker } = answer.receipt;
console.log(choice.text);
console.error(`${choice.finish_reason}, ${usage.completion_tokens} tokens by ${worker}`);
client.close();
