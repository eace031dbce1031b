// node cancel.js
//
// Stops an answer that would go on for long: cancelling the call frees its slot at the model's next step.

import { status } from "@grpc/grpc-js";

import { caller, generation, within } from "./gateway.js";

const client = generation();
const request = {
  prompt: "The history of the sea is a history of people who",
  sampling: { temperature: 0 },
  stopping: { max_tokens: 4000 },
};
const stream = client.GenerateStream(request, caller(), within(60));

let text = "";
try {
  for await (const event of stream) {
    text += event.delta?.text ?? "";
    if (text.length > 80) stream.cancel();
  }
} catch (error) {
  if (error.code !== status.CANCELLED) throw error;
}
console.log(text);
client.close();
