// Elements, made without markup: text stays text.

/** An element; `name` is `tag.class.class`, what is `undefined` or `false` among the attributes is left out. */
export function el(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== ""));
  return made;
}

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/** Sets a text only where it changes, so that nothing is laid out in vain. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tells those who can't see the page, once a thing. */
export function announce(text) {
  byId("status").textContent = text;
}
