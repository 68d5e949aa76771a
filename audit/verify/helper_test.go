package verify_test

import "encoding/hex"

func hexOf(h [32]byte) string { return hex.EncodeToString(h[:]) }
