/** This package's version: what the client calls itself on the wire. The same as in package.json (a test compares them). */
export const VERSION = "0.1.0";
