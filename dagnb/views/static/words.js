// Words and elements. Text from a run stays text, never markup; all markup comes from dagnb, which has escaped that text.

const SVG = "http://www.w3.org/2000/svg";

function secondsText(seconds) {
  if (seconds < 0.9995) return `${seconds < 0.1 ? +(seconds * 1e3).toPrecision(2) : Math.round(seconds * 1e3)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

// left: [median, low, high] in seconds, or {at_least, unknown, n_more} where functions are unknown;
// since: seconds that have passed since then.
function leftText(left, since) {
  if (!left) return "";
  const rough = (seconds) => (seconds > 9.5 && seconds < 59.5 ? `${Math.round(seconds)} s` : secondsText(seconds));
  if (left.unknown) {
    const names = left.unknown.join(", ") + (left.n_more ? ` and ${left.n_more} more` : "");
    const bound = left.at_least - since;
    return bound < 0.5 ? `time left unknown: nothing is known of ${names} yet` : `at least ${rough(bound)} left, not counting ${names} (not known yet)`;
  }
  const [middle, low, high] = left.map((seconds) => rough(Math.max(0, seconds - since)));
  return left[0] - since < 0.5 && left[2] - since < 1 ? "about to end" : `about ${middle} left (${low} to ${high})`;
}

function bytesText(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 999.5 && i < 4; i++) n /= 1e3;
  return `${+n.toPrecision(3)} ${units[i]}`;
}

function grouped(n) {
  return n.toLocaleString("en");
}

function counted(n, thing) {
  return `${grouped(n)} ${thing}${n === 1 ? "" : "s"}`;
}

function put(parent, tag, look, text) {
  const child = document.createElement(tag);
  if (look) child.className = look;
  if (text !== undefined) child.textContent = text;
  parent.append(child);
  return child;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text; // an unchanged node keeps selection and focus
}

function mark(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
}

// "0-2,5" -> calls take(0), take(1), take(2), take(5)
function eachOf(ranges, take) {
  for (const part of ranges ? ranges.split(",") : []) {
    const [first, last] = part.split("-").map(Number);
    for (let i = first; i <= (last ?? first); i++) take(i);
  }
}

function parsed(markup, type) {
  const parsedDocument = new DOMParser().parseFromString(markup, type);
  return document.importNode(type === "text/html" ? parsedDocument.body.firstElementChild : parsedDocument.documentElement, true);
}
