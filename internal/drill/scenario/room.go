// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-telemetry/holdfast/internal/drill/topology"
)

// Scenarios about room: on the disk, in the queue, in memory.

const (
	// journalMiB is the least room a journal takes (journal, section 10).
	journalMiB = 16
	// large is the size of an item where room is to run out soon, in bytes.
	large = 12000
	// emergencyBytes is room in an emergency file, where that is to be full soon, too.
	emergencyBytes = 1 << 20
	// shortQueue is how many requests wait in memory where that is to be full soon.
	shortQueue = 60
	// fullTime is for a queue to be full, and drainTime for it to be empty again.
	fullTime  = 30 * time.Second
	drainTime = 40 * time.Second
	// admissionMiB is the least that is admitted at once (admission.MinLimit), half of what a flood brings.
	admissionMiB = 32
	// memoryMiB is what the process is told it has; the kernel's pages of files it reads come on top.
	memoryMiB = 128
	// syncDelay makes a slow disk of any.
	syncDelay = 250 * time.Millisecond
)

// little gives every queue little room, so that it is full soon; why is not empty if that cannot be.
func little(t *topology.Topology, s *Scenario) {
	for _, st := range t.Storages {
		for _, id := range st.IDs {
			s.Sets = append(s.Sets, fmt.Sprintf("extensions::%s::max_file_size_mib=%d", id, journalMiB*max(st.Journals, 1)))
		}
		s.Load.ItemBytes = large
	}
	for _, id := range t.QueuedInMemory() {
		s.Sets = append(s.Sets, fmt.Sprintf("exporters::%s::sending_queue::queue_size=%d", id, shortQueue))
	}
	for _, c := range t.Emergencies() {
		s.Sets = append(s.Sets, fmt.Sprintf("connectors::%s::emergency::max_bytes=%d", c, emergencyBytes))
	}
	if len(t.Storages) == 0 && len(t.QueuedInMemory()) == 0 {
		s.Why = "there is no queue that could be full"
	}
}

// full fills the queue until the door refuses, and then ends the process.
func full(t *topology.Topology, name string, end Verb) Scenario {
	words := map[Verb]string{Kill: "kill -9", Term: "SIGTERM"}
	s := Scenario{Name: name, Title: words[end] + " with a queue so full that the door refuses, then a new start"}
	if little(t, &s); s.Why != "" {
		return s
	}
	s.Steps = []Step{
		{Do: Fault, On: all(t), Faults: []string{"refuse"}},
		{Do: Refused, Within: fullTime},
		{Do: end},
		{Do: Restore},
		{Do: Accepted, Count: some, Within: drainTime},
		{Do: Home, Within: drainTime},
	}
	return s
}

// diskCap plays a cap on the disk that is too small for an outage.
func diskCap(t *topology.Topology) Scenario {
	s := Scenario{Name: "disk-cap", Title: fmt.Sprintf("the disk may hold %d MiB for each queue, and that is too little", journalMiB)}
	if len(t.Storages) == 0 {
		s.Why = "no queue is on disk"
		return s
	}
	little(t, &s)
	s.Steps = []Step{
		{Do: Fault, On: all(t), Faults: []string{"refuse"}},
		{Do: Refused, Within: fullTime},
		{Do: Wait, For: lookOn},
		{Do: Restore},
		{Do: Accepted, Count: some, Within: drainTime},
		{Do: Home, Within: drainTime},
	}
	return s
}

// diskFull lets somebody else fill the file system that the queues are on.
func diskFull(t *topology.Topology) Scenario {
	s := Scenario{Name: "disk-full", Title: "somebody else fills the disk under the queues, then there is room again"}
	journals := int64(0)
	for _, st := range t.Storages {
		journals += max(st.Journals, 1)
		for _, id := range st.IDs { // the caps are made for another disk
			s.Sets = append(s.Sets, "extensions::"+id+"::max_file_size_mib=0", "extensions::"+id+"::min_free_mib=0")
		}
	}
	if journals == 0 {
		s.Why = "no queue is on disk"
		return s
	}
	s.Disk.MiB = diskMiB(journals)
	// While the backends are away everything accepted has to be on that disk.
	s.Steps = []Step{
		{Do: Fault, On: all(t), Faults: []string{"refuse"}},
		{Do: Backlog, Count: usual, Within: switchTime},
		{Do: Fill},
		{Do: Refused, Within: fullTime},
		{Do: Wait, For: lookOn},
		{Do: Restore},
		{Do: Accepted, Count: some, Within: drainTime},
		{Do: Home, Within: drainTime},
	}
	s.Load.ItemBytes = large // so that what was allocated before is used up soon
	return s
}

// diskMiB is the size of a disk of the drill's own for so many journals.
func diskMiB(journals int64) int64 { return 32 + 32*journals }

// slowDisk lets every sync take longer.
func slowDisk(t *topology.Topology) Scenario {
	s := Scenario{Name: "slow-disk", Title: fmt.Sprintf("every sync of the disk takes %s longer", syncDelay), Disk: Disk{Slow: true}}
	if !synced(t) {
		s.Why = "no answer waits for a disk"
		return s
	}
	s.Steps = []Step{
		{Do: Slow, For: syncDelay},
		{Do: Wait, For: 4 * time.Second},
		{Do: Fault, On: all(t), Faults: []string{"refuse"}},
		{Do: Accepted, Count: some, Within: seeTime},
		{Do: Wait, For: 2 * time.Second},
		{Do: Restore},
		{Do: Home, Within: returnTime},
	}
	return s
}

// memory lets more come at once than there is memory for.
func memory(t *topology.Topology) Scenario {
	s := Scenario{Name: "memory", Title: "many large requests at once, and memory for few of them",
		Sets: []string{fmt.Sprintf("service::admission::limit_mib=%d", admissionMiB)}, Vars: []string{fmt.Sprintf("GOMEMLIMIT=%dMiB", memoryMiB)}, MaxMiB: 3 * memoryMiB}
	// What is admitted is in memory until the disk has it.
	if synced(t) {
		s.Disk = Disk{Slow: true, Optional: true}
		s.Steps = []Step{{Do: Slow, For: 4 * syncDelay}}
	}
	s.Steps = append(s.Steps, Step{Do: Flood}, Step{Do: Refused, Within: fullTime}, Step{Do: Wait, For: lookOn}, Step{Do: Restore},
		Step{Do: Accepted, Count: some, Within: seeTime}, Step{Do: Home, Within: returnTime})
	return s
}

// synced reports whether answers wait for a disk.
func synced(t *topology.Topology) bool {
	return slices.ContainsFunc(t.Storages, func(s topology.Storage) bool { return s.Synced })
}
