// What somebody sees who is not signed in: a form for a key, or what a link of /login opens.

import { signInWith } from "./api.js";
import { h } from "./dom.js";

export function signIn(done) {
  const code = location.pathname === "/sign-in" ? location.hash.slice(1) : "";
  return code ? withLink(code, done) : withKey(done);
}

function withKey(done) {
  const key = h("input", {
    id: "key",
    type: "password",
    autocomplete: "current-password",
    required: true,
    "data-testid": "key",
  });
  const problem = h("p", { role: "alert", class: "problem" });
  const submit = async (event) => {
    event.preventDefault();
    problem.textContent = "";
    try {
      await signInWith({ key: key.value.trim() });
      done();
    } catch (refusal) {
      problem.textContent = refusal.message;
      key.select();
    }
  };
  return h(
    "form",
    { class: "card sign-in-form", onsubmit: submit, "data-testid": "sign-in" },
    h("p", {}, "In a direct chat with the bot, ", h("code", {}, "/login"), " sends you a link that signs you in here."),
    h("label", { for: "key" }, "Or sign in with a key of the API"),
    h("div", { class: "line" }, key, h("button", { type: "submit", class: "small primary" }, "Sign in")),
    problem,
    h("p", { class: "fine" }, h("code", {}, "interject keys create"), " makes a key; the web chat's token works too."),
  );
}

// The link works once: opening it alone does nothing, so that a preview of it in a chat does not use it up.
function withLink(code, done) {
  const problem = h("p", { role: "alert", class: "problem" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await signInWith({ code });
      done();
    } catch (refusal) {
      problem.textContent = refusal.message;
    }
  };
  return h(
    "form",
    { class: "card sign-in-form", onsubmit: submit, "data-testid": "sign-in" },
    h("p", {}, "This link signs this browser in as the person who asked for it with ", h("code", {}, "/login"), "."),
    h("div", {}, h("button", { type: "submit", class: "small primary", "data-testid": "use-link" }, "Sign in")),
    problem,
  );
}
