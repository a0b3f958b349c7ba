// @ts-check
/** Gets this tab its client secret: freely on the server's own machine or a public page, else for an access key. */

import { ClientSecret } from "./mmduet.js";
import { element } from "./elements.js";
import { request, responseError } from "./mmduet/http.js";

const STORED = "mmduet-client-secret";

/** The address of the server: the page lies at …/page/. */
export const SERVER = new URL("../", document.baseURI);

/**
 * Return the client secret of this tab. Every tab is a visitor of its own.
 * @param {"open" | "public" | "key"} access who may use the page
 * @returns {Promise<ClientSecret>}
 */
export async function openAccess(access) {
  const stored = await restore();
  if (stored) return stored;
  if (access === "open") return remember(await ClientSecret.create(SERVER));
  if (access === "public") return remember(await createVisitor());
  return remember(await askForKey());
}

/** @returns {Promise<ClientSecret>} */
async function createVisitor() {
  const response = await request("POST", new URL("page/visitors", SERVER), null);
  if (!response.ok) throw await responseError(response);
  return ClientSecret.from(SERVER, await response.json());
}

/**
 * Return the secret that this tab had before it was reloaded, if it can still be renewed. A duplicated tab has a copy of
 * the original's storage, so the secret is taken out while it is in use.
 * @returns {Promise<ClientSecret | null>}
 */
async function restore() {
  const text = sessionStorage.getItem(STORED);
  sessionStorage.removeItem(STORED);
  if (text === null) return null;
  try {
    return remember(await ClientSecret.from(SERVER, JSON.parse(text)).renewed());
  } catch {
    return null;
  }
}

/**
 * Store the secret when the page is left, so that a reload finds it.
 * @param {ClientSecret} secret
 */
function remember(secret) {
  addEventListener("pagehide", () => sessionStorage.setItem(STORED, JSON.stringify(secret)));
  addEventListener("pageshow", () => sessionStorage.removeItem(STORED));
  return secret;
}

/**
 * Ask for an access key until the server accepts one. The key is not stored.
 * @returns {Promise<ClientSecret>}
 */
function askForKey() {
  const input = element("input", { type: "password", id: "mmduet-key", autocomplete: "off", required: true });
  const problem = element("p", { role: "alert", class: "mmduet-problem" });
  const form = element(
    "form",
    { method: "dialog" },
    element("h2", {}, "Access key"),
    element("p", {}, "This server is protected. Enter the access key that its operator gave you."),
    element("label", { for: "mmduet-key" }, "Access key (API key)"),
    input,
    problem,
    element("button", { type: "submit", class: "mmduet-button" }, "Continue"),
  );
  const dialog = element("dialog", { class: "mmduet-dialog", "aria-label": "Access key" }, form);
  dialog.addEventListener("cancel", (/** @type {Event} */ event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    form.addEventListener("submit", async (/** @type {Event} */ event) => {
      event.preventDefault();
      problem.textContent = "";
      try {
        const secret = await ClientSecret.create(SERVER, { key: input.value });
        dialog.remove();
        resolve(secret);
      } catch (error) {
        problem.textContent = /** @type {Error} */ (error).message;
        input.select();
      }
    });
  });
}
