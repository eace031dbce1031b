// Puts the page together: prompt, keys, and what depends on what.

import { Chat } from "./chat.js";
import { Conversation } from "./conversation.js";
import { announce, byId, setText } from "./dom.js";
import { Images } from "./images.js";
import { Models } from "./models.js";
import { Panel } from "./panel.js";
import { Plan } from "./plan.js";
import { Settings } from "./settings.js";

const TALLEST_PROMPT = 0.4; // of the window
const prompt = byId("prompt");
const isTouch = matchMedia("(pointer: coarse)").matches;

const settings = new Settings(() => plan.refresh());
const models = new Models(settings, () => {
  plan.refresh();
  greet();
});
const images = new Images(() => plan.refresh());
const conversation = new Conversation();
const chat = new Chat(conversation, settings, models, showState);
const plan = new Plan(() => (settings.fault() ? null : chat.request(prompt.value.trim(), images.list)));
const panel = new Panel(() => models.restart());

function greet() {
  const { chosen } = models;
  const sees = chosen?.diplex.images ? " It takes images too." : "";
  setText(byId("greeting-model"), chosen ? `${chosen.id} will answer.${sees}` : "No model is there yet.");
}

function showState() {
  const { isAnswering } = chat;
  // The one that has the focus is never hidden under it.
  if (isAnswering && document.activeElement === byId("send")) prompt.focus();
  if (!isAnswering && document.activeElement === byId("stop")) prompt.focus();
  byId("send").hidden = isAnswering;
  byId("stop").hidden = !isAnswering;
  plan.refresh();
}

function send() {
  const text = prompt.value.trim();
  if (chat.isAnswering || !(text || images.list.length)) return;
  const fault = settings.fault();
  if (fault) {
    panel.show("settings");
    fault.focus();
    fault.reportValidity();
    return;
  }
  prompt.value = "";
  fit();
  chat.send(text, images.take());
}

function fit() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, innerHeight * TALLEST_PROMPT)}px`;
}

function newChat() {
  chat.clear();
  announce("New chat");
  prompt.focus();
}

function recall() {
  const last = conversation.turns.at(-1);
  if (!last) return;
  prompt.value = last.text;
  fit();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
prompt.addEventListener("input", () => {
  fit();
  plan.refresh();
});
prompt.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  // On a touch screen Enter makes a line, since there is no other way to.
  if (event.key === "Enter" && !event.shiftKey && !isTouch) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && !prompt.value) {
    event.preventDefault();
    recall();
  }
});
byId("stop").addEventListener("click", () => chat.stop());
byId("new-chat").addEventListener("click", newChat);
byId("model").addEventListener("change", greet);
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    prompt.value = example.textContent;
    send();
    prompt.focus();
  });
}

const SHORTCUTS = {
  KeyN: newChat,
  KeyS: () => panel.toggle("settings"),
  KeyM: () => panel.toggle("models"),
  KeyR: () => chat.again(),
  KeyK: () => byId("keys-dialog").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (chat.isAnswering) chat.stop();
    else if (panel.open && byId("side").contains(document.activeElement)) panel.hide();
    else prompt.focus();
  } else if (event.altKey && !event.ctrlKey && !event.metaKey && SHORTCUTS[event.code]) {
    event.preventDefault();
    SHORTCUTS[event.code]();
  }
});
addEventListener("pagehide", () => conversation.keep());

fit();
showState();
