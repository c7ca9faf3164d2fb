// Search results show a passage of each page that they fetch. A page opened from a folder (file://) may not fetch its
// neighbours, so there the list of hits stands without passages.
if (window.location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
