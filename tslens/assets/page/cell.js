"use strict";
// One drawing by CircuitsVis, in a cell of a notebook.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  CircuitsVis.render("drawing", CircuitsVis[data.element], data.properties);
})();
