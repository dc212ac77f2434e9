"use strict";

const STEP = 2;
const STRIDE = 10;

/** Makes a photo's viewer work. */
function openViewer(viewer) {
  const stage = viewer.querySelector(".stage");
  const scroll = viewer.querySelector(".scroll");
  const after = viewer.querySelector("img.after");
  const divider = viewer.querySelector(".divider");
  const { width, height, centreX, centreY } = viewer.dataset;
  let share = 50; // of the stage, in percent, that shows the photo before
  let drag = null;

  viewer.style.setProperty("--w", width);
  viewer.style.setProperty("--h", height);

  /** Clips the layer after at the divider, which stays on the stage while the photo scrolls. */
  function clip() {
    if (!scroll.scrollWidth) return;
    const x = scroll.scrollLeft + (share / 100) * scroll.clientWidth;
    after.style.clipPath = `inset(0 0 0 ${(100 * x) / scroll.scrollWidth}%)`;
  }

  function divide(percent) {
    share = Math.min(100, Math.max(0, percent));
    const before = Math.round(share);
    divider.style.left = `${share}%`;
    divider.setAttribute("aria-valuenow", before);
    divider.setAttribute("aria-valuetext", `${before} % before, ${100 - before} % after`);
    clip();
  }

  function divideAt(event) {
    const place = stage.getBoundingClientRect();
    divide((100 * (event.clientX - place.left)) / place.width);
  }

  function zoom(whole) {
    viewer.classList.toggle("zoomed", whole);
    for (const button of viewer.querySelectorAll("[data-zoom]")) {
      button.setAttribute("aria-pressed", (button.dataset.zoom === "whole") === whole);
    }
    // To where the restored pixels are.
    scroll.scrollLeft = centreX * scroll.scrollWidth - scroll.clientWidth / 2;
    scroll.scrollTop = centreY * scroll.scrollHeight - scroll.clientHeight / 2;
    clip();
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const zoomed = viewer.classList.contains("zoomed");
    const divides = !zoomed || divider.contains(event.target);
    // A finger scrolls the photo by itself.
    if (!divides && event.pointerType === "touch") return;
    drag = { divides, x: event.clientX, y: event.clientY };
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
    if (!divides) return;
    divider.focus({ preventScroll: true, focusVisible: false });
    // A finger that only begins to scroll the page leaves the divider where it is.
    if (event.pointerType !== "touch") divideAt(event);
  });

  stage.addEventListener("pointermove", (event) => {
    if (drag === null) return;
    if (drag.divides) {
      divideAt(event);
      return;
    }
    scroll.scrollBy(drag.x - event.clientX, drag.y - event.clientY);
    drag.x = event.clientX;
    drag.y = event.clientY;
  });

  stage.addEventListener("pointerup", (event) => {
    if (drag !== null && drag.divides) divideAt(event);
    drag = null;
  });

  stage.addEventListener("pointercancel", () => {
    drag = null;
  });

  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? STRIDE : STEP;
    const places = {
      ArrowLeft: share - step,
      ArrowDown: share - step,
      ArrowRight: share + step,
      ArrowUp: share + step,
      PageDown: share - STRIDE,
      PageUp: share + STRIDE,
      Home: 0,
      End: 100,
    };
    if (!(event.key in places) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    divide(places[event.key]);
  });

  for (const button of viewer.querySelectorAll("[data-layer]")) {
    const layer = viewer.querySelector(`.canvas .${button.dataset.layer}`);
    button.addEventListener("click", () => {
      const shown = layer.toggleAttribute("hidden") === false;
      button.setAttribute("aria-pressed", shown);
    });
  }

  for (const button of viewer.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoom(button.dataset.zoom === "whole"));
  }

  scroll.addEventListener("scroll", clip, { passive: true });
  new ResizeObserver(clip).observe(scroll);
}
