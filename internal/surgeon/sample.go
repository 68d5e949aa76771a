package surgeon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// timeLayout is how a record spells its time.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Sample returns record seq of a made-up log: the genesis record, a start, then
// decisions of about 650 bytes, 100 microseconds apart.
func Sample(seq uint64) []byte {
	head := Prefix(seq, SampleTime(seq))
	switch seq {
	case 0:
		return append(head, `"type":"system","event":"system.genesis","severity":"info","outcome":"success","details":{"format":1,"origin":"test.example/log"}}`...)
	case 1:
		return append(head, `"type":"system","event":"system.start","severity":"info","outcome":"success","details":{"version":"test"}}`...)
	}
	return fmt.Appendf(head, `"type":"decision","event":"permission_granted","severity":"info","outcome":"success",`+
		`"decision_id":"0199b3f0-1c2d-7%03x-8000-%012x","path":"verdict/authz/decision","subject":"user-%d","action":"ticket.read",`+
		`"resource":"ticket/%d","tenant":"isp-north","client_ip":"10.1.%d.%d","requested_by":"billing-api",`+
		`"input":{"subject":{"id":"user-%d","roles":["support","billing"]},"action":"ticket.read","resource":{"type":"ticket","id":"%d","owner":"Zoë"}},`+
		`"result":{"allow":true,"policy":"rbac","reasons":[]},"reasons":[],"bundles":{"isp":"2026-11-01T00:00:00Z"},"duration_ns":%d}`,
		seq&0xfff, seq, seq%1000, seq, seq>>8&255, seq&255, seq%1000, seq, 40_000+seq%977)
}

// Small returns record seq as the shortest record that is still a decision.
func Small(seq uint64) []byte {
	if seq == 0 {
		return Sample(0)
	}
	return append(Prefix(seq, SampleTime(seq)), `"type":"decision","event":"permission_denied"}`...)
}

// SampleTime is the time of record seq of Sample and Small.
func SampleTime(seq uint64) time.Time {
	return time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC).Add(time.Duration(seq) * 100 * time.Microsecond)
}

// Prefix returns the fixed start of a record.
func Prefix(seq uint64, t time.Time) []byte {
	return fmt.Appendf(make([]byte, 0, 768), `{"seq":%d,"time":"%s",`, seq, t.UTC().Format(timeLayout))
}

// ClockStep returns a record that announces a step of the clock to t.
func ClockStep(seq uint64, t time.Time) []byte {
	return append(Prefix(seq, t), `"type":"system","event":"system.clock_step","severity":"medium","outcome":"warning"}`...)
}

// BlobRecord returns a decision whose input was stored as the blob.
func BlobRecord(seq uint64, blob []byte) []byte {
	sum := sha256.Sum256(blob)
	return fmt.Appendf(Prefix(seq, SampleTime(seq)),
		`"type":"decision","event":"permission_granted","input":{"sha256":"%s","size":%d,"blob":true},"result":true}`,
		hex.EncodeToString(sum[:]), len(blob))
}

// RecordTime reads a record's time in Unix microseconds, 0 when there is none.
func RecordTime(rec []byte) int64 {
	_, rest, ok := bytes.Cut(rec, []byte(`"time":"`))
	if !ok || len(rest) < len(timeLayout) {
		return 0
	}
	t, err := time.Parse(timeLayout, string(rest[:len(timeLayout)]))
	if err != nil {
		return 0
	}
	return t.UnixMicro()
}
