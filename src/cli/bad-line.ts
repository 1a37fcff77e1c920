/** What is wrong with one line of an import. */
export class BadLine extends Error {}
