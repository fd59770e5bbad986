// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package segment

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Dump writes what a segment holds for people to read: its header, a line for each frame and each gap, its end. No
// bytes of records are shown. An error comes from the disk or from out.
func Dump(out io.Writer, file vfs.File, path string) error {
	in, err := Inspect(file, path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s: %s, %d bytes\n", path, in.Class, in.Bytes)
	if in.Unreadable > 0 {
		fmt.Fprintf(w, "the disk refused %d bytes of header and seal\n", in.Unreadable)
	}
	switch in.Class {
	case Newer:
		fmt.Fprintf(w, "%v\n", in.Newer)
	case Sealed, Unsealed:
		in.Header.dump(w)
	case Headless:
		fmt.Fprintf(w, "  salt %08x  tag %d  base seq %d  base items %d\n",
			in.Header.Salt, in.Header.Tag, in.Header.BaseSeq, in.Header.BaseItems)
	}
	if in.Class == Sealed || in.Class == Unsealed || in.Class == Headless {
		err = dumpFrames(w, file, &in)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("dump %s: %w", path, err)
	}
	return err
}

func (h *Header) dump(w io.Writer) {
	mode := "synced"
	if h.Flags&FlagUnsynced != 0 {
		mode = "unsynced"
	}
	if h.Flags&FlagRescue != 0 {
		mode += ", rescue"
	}
	fmt.Fprintf(w, "  segment %d  journal %x  salt %08x  tag %d  %s\n", h.ID, h.Journal, h.Salt, h.Tag, mode)
	fmt.Fprintf(w, "  base seq %d  base items %d  made %s for %d bytes\n",
		h.BaseSeq, h.BaseItems, when(h.Created), h.FileBytes)
	fmt.Fprintf(w, "  after segment %d, last seq %d, durable to %d\n", h.PrevID, h.PrevLastSeq, h.PrevDurable)
	for _, c := range h.Cursors {
		fmt.Fprintf(w, "  owed to %016x\n", c)
	}
}

func when(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

func dumpFrames(w io.Writer, file vfs.File, in *Inspection) error {
	fmt.Fprintf(w, "%10s %8s %8s %8s %8s %8s %10s  accepted\n", "offset", "seq", "items", "size", "meta", "body", "synced")
	s, err := in.Scan(file, func(f *Frame) {
		note := ""
		if !f.Known() {
			note = fmt.Sprintf("  not understood: type %d codec %d flags %#x", f.Type, f.Codec, f.Flags)
		}
		fmt.Fprintf(w, "%10d %8d %8d %8d %8d %8d %10d  %s%s\n",
			f.Off, f.Seq, f.Items, f.Size, f.metaLen, f.bodyLen-f.metaLen, f.Synced, when(f.Accepted), note)
	})
	if err != nil {
		return err
	}
	for _, g := range s.Gaps {
		items := "items unknown"
		if g.Counted {
			items = fmt.Sprintf("%d items", g.Items)
		}
		fmt.Fprintf(w, "damaged %d..%d: seq %d to %d, %s\n", g.Off, g.End, g.First, g.Last, items)
	}
	fmt.Fprintf(w, "%d records, %d items, %d bytes, data ends at %d, durable at least to %d\n",
		s.Records, s.Items, s.Bytes, s.DataEnd, s.Witness)
	switch {
	case s.Abandoned:
		fmt.Fprintf(w, "what follows was not looked at: the file is made to keep readers busy\n")
	case s.ToSeal:
		fmt.Fprintf(w, "sealed\n")
	case s.Tail.End > 0:
		fmt.Fprintf(w, "%d..%d is no frame\n", s.Tail.Off, s.Tail.End)
	}
	return nil
}
