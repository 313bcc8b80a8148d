(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const form = $("filters");
  const viewer = $("viewer");
  if (!form) return;

  const cards = [...document.querySelectorAll("#cards > .card")];
  const fields = ["q", "split", "cls", "kind", "notice"];
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const haystack = new Map();
  const textOf = (card) => {
    if (!haystack.has(card)) haystack.set(card, plain([...card.querySelectorAll("p")].map((p) => p.textContent).join(" ").replace(/\s+/g, " ")));
    return haystack.get(card);
  };

  /* ---- filters ---- */

  const has = (list, item) => list.split(item.startsWith("~") ? "&" : " ").includes(item.replace("~", ""));
  const tests = {
    q: (card, value) => plain(value).split(/\s+/).every((word) => textOf(card).includes(word)),
    split: (card, value) => card.dataset.split === value,
    cls: (card, value) => (value.startsWith("~") ? has(card.dataset.cls, value) : card.dataset.cls === value),
    kind: (card, value) => card.dataset.kind === value,
    notice: (card, value) =>
      value === "any" ? card.dataset.notices !== ""
        : value === "none" ? card.dataset.notices === "" : has(card.dataset.notices, value),
  };

  const active = () => fields.map((name) => [name, form.elements[name].value.trim()]).filter(([, value]) => value);
  const shown = () => cards.filter((card) => !card.hidden);

  function apply() {
    const wanted = active();
    let count = 0;
    for (const card of cards) {
      card.hidden = !wanted.every(([name, value]) => tests[name](card, value));
      count += card.hidden ? 0 : 1;
    }
    const total = `${cards.length.toLocaleString("en")} sample${cards.length === 1 ? "" : "s"}`;
    $("found").value = wanted.length ? `${count.toLocaleString("en")} of ${total}` : total;
    $("nothing").hidden = count > 0;
    $("clear").hidden = wanted.length === 0;
  }

  function remember() {
    const query = new URLSearchParams(active()).toString();
    /* replace() instead of history.replaceState(): the latter is refused for file: pages by some browsers. */
    if (query) location.replace(`#show:${query}`);
    else if (location.hash.startsWith("#show:")) location.replace("#gallery");
  }

  function recall() {
    if (!location.hash.startsWith("#show:")) return false;
    const query = new URLSearchParams(location.hash.slice(6));
    let same = true;
    for (const name of fields) {
      const field = form.elements[name];
      const value = query.get(name) ?? "";
      same = same && field.value.trim() === value;
      /* A class or flag that no card of the page has is no option yet: then the page says that nothing matches. */
      if (field.options && ![...field.options].some((option) => option.value === value)) field.add(new Option(value));
      field.value = value;
    }
    apply();
    return !same;
  }

  let typing = 0;
  function changed(event) {
    document.body.classList.toggle("no-boxes", !form.elements.boxes.checked);
    if (event.target.name === "boxes") return;
    apply();
    clearTimeout(typing);
    typing = setTimeout(remember, 300);
  }
  form.addEventListener("input", changed);
  form.addEventListener("change", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  function clear() {
    for (const name of fields) form.elements[name].value = "";
    apply();
    remember();
    form.elements.q.focus();
  }
  $("clear").addEventListener("click", (event) => { event.preventDefault(); clear(); });
  $("clear-too").addEventListener("click", clear);
  addEventListener("hashchange", () => { if (recall()) $("gallery").scrollIntoView(); });

  /* ---- one sample, enlarged ---- */

  let current = null;
  function show(card) {
    current = card;
    const copy = card.cloneNode(true);
    copy.classList.remove("current");
    const frame = copy.querySelector(".frame");
    const still = document.createElement("div");
    still.className = frame.className;
    still.append(...frame.childNodes);
    still.querySelector(".sr")?.remove();
    frame.replaceWith(still);
    $("stage").replaceChildren(copy);
    const list = shown();
    $("position").value = `${list.indexOf(card) + 1} of ${list.length}`;
    if (!viewer.open) viewer.showModal();
    viewer.scrollTop = 0;
  }
  function step(by) {
    const list = shown();
    if (list.length) show(list[(list.indexOf(current) + by + list.length) % list.length]);
  }
  $("cards").addEventListener("click", (event) => {
    const frame = event.target.closest(".frame");
    if (frame) show(frame.closest(".card"));
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => { if (current) goTo(current); $("stage").replaceChildren(); });

  /* ---- keyboard ---- */

  function goTo(card) {
    for (const other of document.querySelectorAll(".card.current")) other.classList.remove("current");
    card.classList.add("current");
    card.querySelector(".frame").focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
    current = card;
  }
  function walk(by) {
    const list = shown();
    if (!list.length) return;
    const focused = document.activeElement.closest(".card");
    const place = list.indexOf(focused ?? current);
    goTo(list[place < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(place + by, 0), list.length - 1)]);
  }
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (viewer.open) {
      if (event.key === "ArrowRight" || event.key === "j") step(1);
      else if (event.key === "ArrowLeft" || event.key === "k") step(-1);
      return;
    }
    if (event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") { event.preventDefault(); form.elements.q.focus(); }
    else if (event.key === "j") walk(1);
    else if (event.key === "k") walk(-1);
    else if (event.key === "b") form.elements.boxes.click();
  });

  form.hidden = false;
  $("keys").hidden = false;
  document.body.classList.toggle("no-boxes", !form.elements.boxes.checked);
  if (!recall()) apply();
  else $("gallery").scrollIntoView();
})();
