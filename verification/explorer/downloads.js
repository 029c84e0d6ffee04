/** The files of a proof, and their download. */

/** Certificate and files of a decision; not `digested` if the browser computes no SHA-256. */
async function proofFiles(proved, about) {
  const { prefix, name } = about;
  const files = {
    scores: { name: `${prefix}scores.safetensors`, bytes: scoresFile(name, proved.r) },
    mask: { name: `${prefix}mask.safetensors`, bytes: maskFile(name, proved.kept) },
  };
  const [scores, mask] = await Promise.all([sha256(files.scores.bytes), sha256(files.mask.bytes)]);
  const stated = certificate(proved, {
    ...about,
    files: { scores: files.scores.name, mask: files.mask.name },
    digests: { scores, mask },
  });
  const text = `${JSON.stringify(stated, null, 1)}\n`;
  const file = { name: `${prefix}certificate.json`, bytes: encoder.encode(text) };
  return { text, digested: scores !== null, all: [files.scores, files.mask, file] };
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
