// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package breaker

// Transition is a change of state and why: one series of a counter.
type Transition struct {
	From, To State
	Reason   Reason
}

// Transitions lists every change of state that a breaker can make, so that each can be counted from 0 on. A member of
// the emergency level knows two.
func Transitions(emergency bool) []Transition {
	if emergency {
		return []Transition{{Healthy, Down, WriteFailed}, {Down, Healthy, WritesAgain}}
	}
	return ordinary[:]
}

var ordinary = [...]Transition{
	{Healthy, Suspect, Failure}, {Healthy, Suspect, SiblingTrip},
	{Suspect, Healthy, Quiet},
	{Suspect, Down, Consecutive}, {Suspect, Down, Startup}, {Suspect, Down, SiblingDown}, {Suspect, Down, Ratio},
	{Suspect, Down, Standing},
	{Suspect, Down, Checks}, // a failed check makes a suspect first
	{Healthy, Down, Throttled}, {Suspect, Down, Throttled},
	{Down, Probing, ProbeIsDue},
	{Probing, Down, ProbeFailed}, {Probing, Down, CanaryFailed},
	{Probing, Healthy, ProofComplete}, {Probing, Ramping, ProofComplete},
	{Ramping, Healthy, Ramped},
	{Ramping, Down, Relapse}, {Ramping, Down, Slow}, {Ramping, Down, Standing}, {Ramping, Down, Throttled},
	{Healthy, Down, Slow}, {Suspect, Down, Slow},
	{Healthy, Held, ByOperator}, {Suspect, Held, ByOperator}, {Ramping, Held, ByOperator}, {Down, Held, ByOperator},
	{Probing, Held, ByOperator},
	{Held, Probing, HoldEnded}, {Held, Probing, Released},
	{Healthy, Down, FromBefore},
}
