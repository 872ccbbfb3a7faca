// The form of somebody who is not signed in.

import { signInWith } from "./api.js";
import { h } from "./dom.js";

export function signIn(done) {
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
      await signInWith(key.value.trim());
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
