package tracking

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/google/uuid"
)

// key is an event's place in the order in which a batch is processed. All batches go by
// ascending email id, so that two writers with the same emails queue up and never
// deadlock.
type key struct {
	email uuid.UUID
	hash  int64 // of the event id, as the email's row remembers it
	event int32 // index in the batch
}

// sortedKeys returns the keys of the batch's distinct events, by (email, hash). Of events
// with the same key, the first in the batch is kept.
func sortedKeys(events []Event) []key {
	keys := make([]key, len(events))
	for i := range events {
		keys[i] = key{events[i].EmailID, events[i].idHash(), int32(i)}
	}
	slices.SortFunc(keys, compareKeys)
	return slices.CompactFunc(keys, func(a, b key) bool { return a.email == b.email && a.hash == b.hash })
}

func compareKeys(a, b key) int {
	if c := compareIDs(a.email, b.email); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.event, b.event))
}

// compareIDs orders ids by their bytes, as PostgreSQL orders uuids. The first half nearly
// always decides, and compares as one number.
func compareIDs(a, b uuid.UUID) int {
	if c := cmp.Compare(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8])); c != 0 {
		return c
	}
	return bytes.Compare(a[8:], b[8:])
}

// delta is how a set of events changes their email's row.
type delta struct {
	keys  []key // of the events: one email's, distinct
	moved bool  // their hashes, and the row's, are in email_event_seen

	providerID          string // of the email; empty if the same as its id
	first               [typeEnd]microtime
	lastOpen, lastClick microtime
	opens, clicks       int32
}

// deltas splits sorted keys into one delta per email.
func deltas(keys []key, events []Event) []delta {
	list := make([]delta, 0, len(keys))
	for len(keys) > 0 {
		n := 1
		for n < len(keys) && keys[n].email == keys[0].email {
			n++
		}
		list = append(list, fold(keys[:n:n], events))
		keys = keys[n:]
	}
	return list
}

// fold is the tally's arithmetic: minimum, maximum and count, all independent of the
// order of the events.
func fold(keys []key, events []Event) delta {
	d := delta{keys: keys, lastOpen: noTime, lastClick: noTime}
	for t := range d.first {
		d.first[t] = noTime
	}
	for _, k := range keys {
		e := &events[k.event]
		at := toMicrotime(e.OccurredAt)
		if e.ProviderEmailID != "" { // the same for all that have one, since the email's id derives from it
			d.providerID = e.ProviderEmailID
		}
		if first := &d.first[e.Type]; *first == noTime || at < *first {
			*first = at
		}
		switch e.Type {
		case Opened:
			d.opens++
			d.lastOpen = max(d.lastOpen, at)
		case Clicked:
			d.clicks++
			d.lastClick = max(d.lastClick, at)
		}
	}
	return d
}
