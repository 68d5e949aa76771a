// Package keys encrypts, signs and authenticates by the classification of
// data. A Ring gives each classification its key and its policy; a Backend
// holds the keys: Vault's transit engine (keys/transit) or sealed keysets in
// the data folder (keys/local). docs/ciphertext.md describes the ciphertexts.
package keys
