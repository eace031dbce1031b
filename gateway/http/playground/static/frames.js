// What changes while answers stream is written to the page once a frame, and only as much as a frame has time for.

const BUDGET_MS = 6;

const waiting = new Set(); // things with a method `paint`, perhaps `settle`; the longest unpainted first
const afterwards = new Set(); // called behind each frame that wrote something
let asked = false;

/**
 * Has `thing.paint()` called in a frame soon; however often that is asked for, once. When all have been painted,
 * `thing.settle()` may ask for sizes and scroll: the page is laid out once a frame then, and not once a thing.
 */
export function repaint(thing) {
  waiting.add(thing);
  ask();
}

/** Has a function called behind each frame in which something was painted. */
export function afterPainting(call) {
  afterwards.add(call);
}

function ask() {
  if (!asked) {
    asked = true;
    requestAnimationFrame(paint);
  }
}

function paint() {
  asked = false;
  const end = performance.now() + BUDGET_MS;
  const painted = [];
  for (const thing of waiting) {
    waiting.delete(thing);
    thing.paint();
    painted.push(thing);
    if (performance.now() > end) break;
  }
  for (const thing of painted) thing.settle?.();
  for (const call of afterwards) call();
  if (waiting.size) ask();
}
