/** The files of a proof, and their download. */

/** Certificate and files of a decision; not `digested` if the browser computes no SHA-256. */
async function proofFiles(proved, about) {
  const { prefix, name } = about;
  const bytes = { scores: scoresFile(name, proved.r), mask: maskFile(name, proved.kept) };
  if (fallsShort(proved)) bytes.best = maskFile(name, proved.best);
  const [all, stated] = [[], { best: null }];
  for (const [role, content] of Object.entries(bytes)) {
    const file = `${prefix}${role}.safetensors`;
    all.push({ name: file, bytes: content });
    stated[role] = { file, sha256: await sha256(content) };
  }
  const text = `${JSON.stringify(certificate(proved, about, stated), null, 1)}\n`;
  all.push({ name: `${prefix}certificate.json`, bytes: encoder.encode(text) });
  return { text, digested: stated.scores.sha256 !== null, all };
}

/** Download the files, and put links to them into `host`. */
function offer(host, { all, digested }) {
  for (const link of host.querySelectorAll("a")) URL.revokeObjectURL(link.href);
  if (!digested) {
    host.textContent =
      "This browser computes no SHA-256 for a page on disk, and without it no checker reads the " +
      "certificate: open the page in another browser.";
    return;
  }
  const links = all.map(({ name, bytes }) => {
    const link = element("a", name);
    link.href = URL.createObjectURL(new Blob([bytes]));
    link.download = name;
    return link;
  });
  const command = element("code", `python verification/checker.py ${all.at(-1).name}`);
  const list = links.flatMap((link) => [link, " "]);
  const how = "Check them in a folder of their own: ";
  host.replaceChildren("Downloaded: ", ...list, element("br"), how, command);
  for (const link of links) link.click();
}
