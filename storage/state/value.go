package state

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// A stored value, numbers big-endian:
//
//	stored = version u8 = 1, revision u64, expires i64, value, checksum u32
//
// expires is microseconds since 1970, 0 for never. The checksum is the CRC-32C
// of the bucket's name, a zero byte, the key, a zero byte and all bytes before
// it: bbolt checks no page, and may so return what belongs to another key.
const (
	valueVersion = 1
	valueHead    = 17
	valueTail    = 4

	maxMicros = 253402300799999999 // the end of the year 9999
)

func appendValue(dst []byte, bucket string, e *storage.Entry) []byte {
	start := len(dst)
	dst = append(dst, valueVersion)
	dst = binary.BigEndian.AppendUint64(dst, e.Revision)
	dst = binary.BigEndian.AppendUint64(dst, uint64(micros(e.Expires)))
	dst = append(dst, e.Value...)
	return binary.BigEndian.AppendUint32(dst, checksum(bucket, e.Key, dst[start:]))
}

// parseValue returns the entry in stored, whose value is a part of stored.
func parseValue(bucket, key string, stored []byte) (storage.Entry, error) {
	end := len(stored) - valueTail
	switch {
	case end < valueHead:
		return storage.Entry{}, damage("key %q of bucket %s: %d bytes", key, bucket, len(stored))
	case binary.BigEndian.Uint32(stored[end:]) != checksum(bucket, key, stored[:end]):
		return storage.Entry{}, damage("key %q of bucket %s: wrong checksum", key, bucket)
	case stored[0] != valueVersion:
		return storage.Entry{}, damage("key %q of bucket %s: value of version %d", key, bucket, stored[0])
	}
	expires := binary.BigEndian.Uint64(stored[9:])
	if expires > maxMicros {
		return storage.Entry{}, damage("key %q of bucket %s: expiry %d", key, bucket, expires)
	}
	e := storage.Entry{Key: key, Revision: binary.BigEndian.Uint64(stored[1:]), Value: stored[valueHead:end:end]}
	if expires != 0 {
		e.Expires = time.UnixMicro(int64(expires)).UTC()
	}
	return e, nil
}

func checksum(bucket, key string, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := uint32(0)
	for _, s := range [2]string{bucket, key} {
		sum = ^sum
		for i := range len(s) { // as crc32.Update, which wants bytes
			sum = table[byte(sum)^s[i]] ^ sum>>8
		}
		sum = ^(table[byte(sum)] ^ sum>>8) // the zero byte
	}
	return crc32.Update(sum, table, b)
}

// expired says whether the entry is absent at that time.
func expired(e *storage.Entry, now time.Time) bool {
	return !e.Expires.IsZero() && !e.Expires.After(now)
}
