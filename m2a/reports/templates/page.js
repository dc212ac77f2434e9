/** Shows one of several photos: that which the address names, or the first. */
function choose() {
  const photos = [...document.querySelectorAll(".photo")];
  const chosen = photos.find((photo) => `#${photo.id}` === location.hash) ?? photos[0];
  for (const photo of photos) photo.hidden = photo !== chosen;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${chosen.id}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

for (const viewer of document.querySelectorAll(".viewer")) openViewer(viewer);
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault(); // which would scroll the page to the photo
    history.pushState(null, "", link.hash);
    choose();
  });
}
addEventListener("popstate", choose);
addEventListener("hashchange", choose);
choose();
