// The page's icons as DOM nodes, in the colour of the text around them.

const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h10",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  clip: "M20 11.500l-8.300 8.300a5.200 5.200 0 0 1-7.400-7.400l8.700-8.700a3.500 3.500 0 0 1 5 5l-8.700 8.600a1.700 1.700 0 0 1-2.500-2.400l7.800-7.800",
  send: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  file: "M7 3h7l5 5v12a1 1 0 0 1-1 1H7a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1zM14 3v5h5",
  done: "M5 12.500l4.500 4.500L19 7.500",
  failed: "M12 7v6M12 17v.01M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18",
  skipped: "M6 6l7 6-7 6zM17 6v12",
  cancelled: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M6 6l12 12",
  denied: "M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z",
  unknown: "M9.200 9a3 3 0 1 1 4.200 2.800c-.9.5-1.400 1-1.400 2.200M12 17.500v.01M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18",
  background: "M7 17L17 7M9 7h8v8",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  chevron: "M9 6l6 6-6 6",
  waiting: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 7v5l3 2",
  read: "M2.500 12s3.500-6 9.500-6 9.500 6 9.500 6-3.500 6-9.500 6-9.500-6-9.500-6zM12 9.500a2.500 2.500 0 1 0 0 5a2.500 2.500 0 0 0 0-5",
};

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
