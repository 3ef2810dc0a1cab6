// Captions to whole numbers, as learn_diffusion/nets/text.py does it; the vocabulary comes from the model itself.

export class PromptError extends Error {}

export const split = (caption) =>
  caption.normalize('NFKC').toLowerCase().replace(/[^\p{L}\p{N}\p{So}]/gu, ' ').split(' ').filter(Boolean);

// `length` tokens: word i of the vocabulary is i + 1, 0 fills up. Throws PromptError for what the model cannot read.
export function tokenise(caption, words, length) {
  const found = split(caption);
  if (!found.length) throw new PromptError('Type at least one word, such as "a cat".');
  if (found.length > length) throw new PromptError(`At most ${length} words, please; these are ${found.length}.`);
  const unknown = [...new Set(found)].filter((word) => !words.includes(word)).map((word) => `"${word.slice(0, 40)}"`);
  if (unknown.length) throw new PromptError(`The model never learned ${unknown.join(', ')}. The words it knows are listed below.`);
  return Array.from({ length }, (_, i) => (i < found.length ? words.indexOf(found[i]) + 1 : 0));
}
