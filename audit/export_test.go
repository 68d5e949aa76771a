package audit

// AppendRecord appends the whole record with a head, as the log writes it.
func AppendRecord(dst []byte, seq uint64, stamp string, r *Record) ([]byte, []Blob, error) {
	body, blobs, err := appendBody(nil, r)
	if err != nil {
		return dst, nil, err
	}
	return append(appendHead(dst, seq, []byte(stamp)), body...), blobs, nil
}

// AppendBody is appendBody without the blobs' copies counted against it.
func AppendBody(dst []byte, r *Record) ([]byte, []Blob, error) { return appendBody(dst, r) }

// Look is one look of the monitor.
func Look(l *Log) { l.look() }
