// Numbers and times in words.

const DAY = 86_400;

export function dollars(cost) {
  if (!cost) return "$0";
  if (cost < 0.01) return "<$0.01";
  return `$${cost.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

export function count(number) {
  return number.toLocaleString("en-US");
}

export function short(number) {
  return Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 }).format(number);
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// Seconds as "8 s", "3 min", "2 h 5 min", "4 d".
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < DAY) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / DAY)} d`;
}

// How long ago; the element is kept up to date by `tick`.
export function ago(time) {
  const element = document.createElement("time");
  element.dateTime = time;
  element.title = new Date(time).toLocaleString();
  element.dataset.ago = "";
  element.textContent = since(time);
  return element;
}

export function moment(time) {
  const element = document.createElement("time");
  element.dateTime = time;
  const at = new Date(time);
  const today = at.toDateString() === new Date().toDateString();
  element.title = at.toLocaleString();
  element.textContent = today ? at.toLocaleTimeString() : at.toLocaleString();
  return element;
}

export function tick() {
  for (const element of document.querySelectorAll("[data-ago]")) {
    const text = since(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}

function since(time) {
  return duration((Date.now() - Date.parse(time)) / 1000);
}
