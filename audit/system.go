package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// FormatVersion is the version of the records and of the way they are chained.
const FormatVersion = 1

// genesis is the details of system.genesis, record 0.
type genesis struct {
	Format      int    `json:"format"`
	Origin      string `json:"origin"`
	Leaf        string `json:"leaf"`
	Head        string `json:"head"`
	Tree        string `json:"tree"`
	TileSize    int    `json:"tile_size"`
	SegmentSize int    `json:"segment_size"`
}

// start is the details of system.start.
type start struct {
	Epoch      uint64     `json:"epoch"` // the sequence number of this record
	Format     int        `json:"format"`
	Durability Durability `json:"durability"`
	Version    string     `json:"version,omitempty"`
	Config     string     `json:"config,omitempty"`
	// Recovered: the run before did not end with system.shutdown.
	Recovered bool `json:"recovered"`
	// DeliveryUnknown is the range, both ends included, of the records that the run
	// before may have made durable without telling their callers.
	DeliveryUnknown []uint64 `json:"delivery_unknown,omitempty"`
}

// shutdown is the details of system.shutdown.
type shutdown struct {
	Epoch   uint64 `json:"epoch"`
	Records uint64 `json:"records"` // of this run, from system.start to the one before this
}

// begin records that this run begins.
func (l *Log) begin() error {
	s := start{
		Format: FormatVersion, Durability: l.opts.Durability,
		Version: l.opts.Version, Config: l.opts.ConfigDigest,
	}
	if next := l.position.Next; next > 0 {
		var err error
		if s.Recovered, s.DeliveryUnknown, err = lastRun(l.store, next); err != nil {
			return err
		}
	} else {
		err := l.system(EventGenesis, SeverityInfo, "the log begins", genesis{
			Format: FormatVersion, Origin: l.position.Origin,
			Leaf:     "SHA-256(0x00 || record)",
			Head:     `head_0 = SHA-256(0x02 || "verdict-audit-v1" || 0x0A || origin), head_n = SHA-256(0x02 || head_{n-1} || leaf_n)`,
			Tree:     "RFC 6962, SHA-256",
			TileSize: chain.TileSize, SegmentSize: chain.SegmentSize,
		})
		if err != nil {
			return fmt.Errorf("record %s: %w", EventGenesis, err)
		}
	}
	// A clock that was set back while nothing ran makes system.clock_step come first.
	if err := l.tick(); err != nil {
		return fmt.Errorf("record %s: %w", EventClockStep, err)
	}
	s.Epoch = l.seq.pos.Next
	severity := SeverityInfo
	if s.Recovered {
		severity = SeverityMedium
	}
	if err := l.system(EventStart, severity, "a run begins", s); err != nil {
		return fmt.Errorf("record %s: %w", EventStart, err)
	}
	l.epoch = s.Epoch
	return nil
}

// end records that the run ended cleanly.
func (l *Log) end() error {
	err := l.system(EventShutdown, SeverityInfo, "the run ends", shutdown{Epoch: l.epoch, Records: l.seq.pos.Next - l.epoch})
	if err != nil {
		return fmt.Errorf("record %s: %w", EventShutdown, err)
	}
	return nil
}

func (l *Log) system(event string, severity Severity, message string, details any) error {
	b, err := json.Marshal(details)
	if err != nil {
		return err
	}
	return l.record(&Record{
		Type: TypeSystem, Event: event, Severity: severity, Outcome: OutcomeSuccess,
		Message: message, Details: b,
	})
}

// lastRun tells how the run before ended and, if not with system.shutdown, which
// of its records its callers may not know of: those of the last group, which may
// have been as large as MaxGroupRecords.
func lastRun(store Reader, next uint64) (recovered bool, unknown []uint64, err error) {
	from := next
	for n := range uint64(MaxGroupRecords) {
		if n == next {
			break
		}
		event, err := eventAt(store, next-1-n)
		if err != nil {
			return false, nil, err
		}
		if n == 0 && event == EventShutdown {
			return false, nil, nil
		}
		if event == EventStart || event == EventGenesis {
			break
		}
		from = next - 1 - n
	}
	if from < next {
		unknown = []uint64{from, next - 1}
	}
	return true, unknown, nil
}

// eventAt returns the event of a record of TypeSystem, of others nothing.
func eventAt(store Reader, seq uint64) (string, error) {
	rec, err := store.Record(seq)
	if err != nil {
		return "", fmt.Errorf("read record %d: %w", seq, err)
	}
	_, _, rest, err := ParseHead(rec)
	if err != nil {
		return "", fmt.Errorf("read record %d: %w", seq, err)
	}
	rest, ok := bytes.CutPrefix(rest, []byte(`"type":"system","event":"`))
	if !ok {
		return "", nil
	}
	event, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return "", fmt.Errorf("read record %d: %w", seq, errors.New("its event does not end"))
	}
	return string(event), nil
}
