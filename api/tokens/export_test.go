package tokens

// DecodeEncode reads a token file and writes it again.
func DecodeEncode(b []byte) (again []byte, n int, err error) {
	list, err := decodeFile(b)
	if err != nil {
		return nil, len(list), err
	}
	again, err = encodeFile(list)
	return again, len(list), err
}

// Lock takes the lock of the folder.
var Lock = lock
