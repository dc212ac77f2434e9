
const byId = (id) => document.getElementById(id);
const maxBytes = Number(document.body.dataset.maxBytes);
let current = null; // the request under way
let last = null; // the photo that was sent last
let token = sessionStorage.getItem("m2a-token");
let saved = null; // the address of the download

/** Shows one of the page's states, and the problem if there is one; `passing`: it may pass. */
function show(state, problem = "", passing = false) {
  for (const name of ["start", "progress", "result", "token"]) byId(name).hidden = name !== state;
  byId("problem").hidden = problem === "";
  byId("reason").textContent = problem.charAt(0).toUpperCase() + problem.slice(1);
  byId("again").hidden = !passing;
}

function say(phase, figure = "") {
  // Read out only where the phase changes, not with every figure.
  if (byId("phase").textContent !== phase) byId("said").textContent = phase;
  byId("phase").textContent = phase;
  byId("figure").textContent = figure;
}

/** Sends a photo and shows what comes back. */
function send(file) {
  last = null;
  if (file.size > maxBytes) {
    const found = `${(file.size / 2 ** 20).toFixed(1)} MiB`;
    show("start", `${file.name}: found ${found}, expected at most ${document.body.dataset.maxSize}.`);
    return;
  }
  if (current !== null) current.abort();
  const request = new XMLHttpRequest(); // fetch does not tell how much of a body is sent
  current = request;
  last = file;
  request.open("POST", "v1/deblur?output=view");
  const known = byId("file").accept.split(",").includes(file.type);
  request.setRequestHeader("Content-Type", known ? file.type : "application/octet-stream");
  if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable || event.loaded === event.total) return;
    byId("bar").value = event.loaded / event.total;
    say("Sending", `${Math.round((100 * event.loaded) / event.total)} %`);
  });
  request.upload.addEventListener("load", () => wait(request));
  request.addEventListener("load", () => take(request, file));
  request.addEventListener("error", () => {
    show("start", "The service cannot be reached, or ended the connection.", true);
  });
  byId("sending").textContent = file.name;
  byId("bar").value = 0;
  say("Sending");
  show("progress");
  request.send(file);
}

/** Shows how long it has been computed. */
function wait(request) {
  const began = Date.now();
  byId("bar").removeAttribute("value");
  say("Deblurring");
  const clock = setInterval(() => say("Deblurring", `${Math.round((Date.now() - began) / 1000)} s`), 1000);
  request.addEventListener("loadend", () => clearInterval(clock));
}

function take(request, file) {
  current = null;
  if (request.status === 200 && request.response !== null) {
    present(request.response, file);
  } else if (request.status === 401) {
    show("token", token === null ? "" : "The service does not know this token.");
    byId("secret").focus();
  } else {
    const told = request.response?.detail ?? `The service answered with status ${request.status}.`;
    show("start", told, [408, 429, 502, 503, 504].includes(request.status));
  }
}

function present(view, file) {
  const viewer = byId("viewer").content.querySelector(".viewer").cloneNode(true);
  Object.assign(viewer.dataset, {
    width: view.shown_width,
    height: view.shown_height,
    centreX: view.centre[0],
    centreY: view.centre[1],
  });
  for (const layer of ["before", "after", "mask"]) {
    const picture = viewer.querySelector(`img.${layer}`);
    picture.width = view.shown_width;
    picture.height = view.shown_height;
    picture.src = `data:image/webp;base64,${view[layer]}`;
  }
  const motion = viewer.querySelector("svg.motion");
  motion.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
  motion.querySelectorAll("path").forEach((path, number) => {
    path.setAttribute("d", view.motion);
    path.setAttribute("stroke-width", view.motion_widths[number]);
  });
  for (const button of viewer.querySelectorAll("[data-layer]")) button.disabled = view.coverage === 0;
  if (view.width !== view.shown_width) {
    const [whole, shown] = [`${view.width} × ${view.height}`, `${view.shown_width} × ${view.shown_height}`];
    viewer.querySelector(".note").textContent =
      `Scaled down for this page, from ${whole} to ${shown} pixels; the download is whole.`;
  }
  byId("place").replaceChildren(viewer);
  byId("title").textContent = file.name;
  byId("lede").textContent = lede(view.coverage);
  offer(view, file);
  show("result");
  openViewer(viewer);
  say("Done");
  byId("title").focus();
}

function lede(coverage) {
  if (coverage === 0) return "No motion blur found: the photo is unchanged.";
  const share = coverage < 0.001 ? "< 0.1" : (100 * coverage).toFixed(1);
  return `${share} % of the pixels restored, all others as they were.`;
}

function offer(view, file) {
  if (saved !== null) URL.revokeObjectURL(saved);
  const bytes = Uint8Array.from(atob(view.photo), (letter) => letter.charCodeAt(0));
  saved = URL.createObjectURL(new Blob([bytes], { type: view.photo_type }));
  const link = byId("download");
  link.href = saved;
  const suffix = view.photo_name.slice(view.photo_name.lastIndexOf("."));
  link.download = `${file.name.replace(/\.[^.]*$/, "")}-sharp${suffix}`;
}

function restart() {
  last = null;
  say("");
  show("start");
  byId("file").focus({ focusVisible: false });
}

byId("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // so that the same photo can be chosen again
  if (file) send(file);
});
byId("cancel").addEventListener("click", () => {
  current?.abort();
  current = null;
  restart();
});
byId("another").addEventListener("click", restart);
byId("again").addEventListener("click", () => send(last));
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("secret").value;
  sessionStorage.setItem("m2a-token", token);
  if (last !== null) send(last);
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("dragged");
  });
}
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragged");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  const [file] = event.dataTransfer.files;
  if (file) send(file);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) send(file);
});
