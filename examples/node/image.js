// node image.js lunch.png "What is in this image?"
//
// A question about a picture: its file's bytes stand beside the text.

import { readFile } from "node:fs/promises";

import { call, generation, within } from "./gateway.js";

const [file, question = "What is in this image?"] = process.argv.slice(2);
if (!file) {
  console.error('name a picture: node image.js lunch.png "What is in this image?"');
  process.exit(2);
}
const client = generation();
const request = {
  model: process.env.MODEL ?? "seeing",
  chat: {
    messages: [{ role: "ROLE_USER", parts: [{ image: { data: await readFile(file) } }, { text: question }] }],
  },
  sampling: { temperature: 0 },
};
const answer = await call(client, "Generate", request, within(120)); // the model may have to be loaded first

console.log(answer.choices[0].text.trim());
console.error(`${answer.receipt.usage.image_tokens} tokens of the prompt stand for the picture`);
client.close();
