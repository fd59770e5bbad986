#!/usr/bin/env bash
# Copyright The Holdfast Authors
# SPDX-License-Identifier: Apache-2.0
#
# Brings a configuration to Holdfast in Kubernetes, or leaves everything as it was. Every step counts: what is not proven
# is undone. Needs kubectl here, and nothing but holdfast in the pods. docs/deploy.md explains each step.

set -uo pipefail
export LC_ALL=C # texts are bytes

usage() {
  cat <<'USAGE'
Usage: rollout.sh [options] CONFIG

  --mode reload|restart    how pods take it: one by one in place (default), or by a rolling restart
  --namespace NAME         observability
  --workload KIND/NAME     statefulset/otel-collector
  --selector LABELS        of its pods; default app=NAME
  --configmap NAME         otel-collector-config
  --key NAME               config.yaml
  --container NAME         collector
  --binary PATH            /holdfast, in the container
  --dry-run                print the steps, do nothing

1 validate (here if holdfast is on the PATH, and in a pod), 2 back up, 3 write, 4 reload or restart, 5 every pod must run it.

Exit codes: 0 deployed; 1 refused, or undone: everything is as before; 2 the undo failed, the backup is named.
USAGE
}

mode=reload namespace=observability workload=statefulset/otel-collector selector='' configmap=otel-collector-config
key=config.yaml container=collector binary=/holdfast dry_run='' config=''
poll=${ROLLOUT_POLL_SECONDS:-2}       # between two looks at a pod
settle=${ROLLOUT_SETTLE_SECONDS:-180} # for a pod to show a hash and to end its trial: a minute, two at most

say() { printf '%s\n' "$*"; }
complain() { printf 'rollout: %s\n' "$*" >&2; }

while (($#)); do
  case $1 in
    --mode | --namespace | --workload | --selector | --configmap | --key | --container | --binary)
      (($# > 1)) || { complain "$1 needs a value"; exit 1; }
      case $1 in
        --mode) mode=$2 ;;
        --namespace) namespace=$2 ;;
        --workload) workload=$2 ;;
        --selector) selector=$2 ;;
        --configmap) configmap=$2 ;;
        --key) key=$2 ;;
        --container) container=$2 ;;
        --binary) binary=$2 ;;
      esac
      shift 2 ;;
    --dry-run) dry_run=yes; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) complain "unknown option $1 (see --help)"; exit 1 ;;
    *)
      [[ -z $config ]] || { complain "one CONFIG, not also $1"; exit 1; }
      config=$1; shift ;;
  esac
done
[[ -n $config ]] || { usage >&2; exit 1; }
[[ $mode == reload || $mode == restart ]] || { complain "--mode is reload or restart, not $mode"; exit 1; }
[[ -f $config && -r $config ]] || { complain "cannot read $config"; exit 1; }
selector=${selector:-app=${workload#*/}}

kube() { kubectl --namespace "$namespace" "$@"; }

# in_pod POD ARGS…: holdfast in that pod.
in_pod() {
  local pod=$1
  shift
  kube exec "$pod" --container "$container" -- "$binary" "$@"
}

sum() {
  local digest
  if command -v sha256sum >/dev/null; then digest=$(sha256sum <"$1"); else digest=$(shasum -a 256 <"$1"); fi || return
  printf '%s' "${digest%% *}"
}

if [[ -n $dry_run ]]; then
  hash=$(sum "$config") || exit 1
  pod="POD of $selector"
  say "1 holdfast validate --portable --config $config (if holdfast is here)"
  say "  kubectl -n $namespace exec -i $pod -c $container -- $binary validate --here --config=- <$config"
  say "2 kubectl -n $namespace get configmap $configmap: keep key $key and the resourceVersion"
  say "3 kubectl -n $namespace patch configmap $configmap --type merge: key $key, if nobody changed it since"
  if [[ $mode == reload ]]; then
    say "4 one by one: kubectl -n $namespace exec $pod -c $container -- $binary reload --wait --expect $hash"
  else
    say "4 kubectl -n $namespace rollout restart $workload; rollout status"
  fi
  say "5 each: kubectl -n $namespace exec $pod -c $container -- $binary status --json --expect $hash"
  say "if 3, 4 or 5 fails, or on interrupt: the kept key is written back, pods go back, each must show the old hash"
  exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/rollout.XXXXXX") || exit 1
backup=$work/$key
written=''  # the ConfigMap holds the new text
deployed='' # every pod runs it
keep=''     # the backup is needed by a person
stopped=''  # the signal that stopped us
child=''
pods=() touched=()
declare -A before=() # what each pod ran

fail() {
  complain "$*"
  exit 1
}

# patiently ARGS…: kubectl with ARGS, which may take minutes and which a signal to us must end.
patiently() {
  [[ -z $stopped ]] || return 130
  kubectl --namespace "$namespace" "$@" & # no function: the signal has to reach kubectl itself
  child=$!
  local code
  wait "$child"
  code=$?
  if [[ -n $stopped ]]; then # wait was interrupted; the command may still be ending
    wait "$child" 2>/dev/null
    code=130
  fi
  child=''
  return "$code"
}

interrupted() {
  stopped=$1
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null
}
trap 'interrupted INT' INT
trap 'interrupted TERM' TERM
trap 'interrupted HUP' HUP

checkpoint() { [[ -z $stopped ]] || fail "stopped by SIG$stopped"; }

# patch_with FILE [RESOURCE_VERSION]: the one key gets FILE's text; with a version only if nobody changed anything since.
patch_with() {
  local data version=${2:-} meta=''
  data=$(kubectl create configmap any --from-file="$key=$1" --dry-run=client -o 'jsonpath={.data}') || return
  [[ $data == '{'*'}' ]] || { complain "$1 is not text"; return 1; }
  [[ -z $version ]] || meta=$(printf '"metadata":{"resourceVersion":"%s"},' "$version")
  printf '{%s"data":%s}' "$meta" "$data" >"$work/patch.json" || return
  kube patch configmap "$configmap" --type merge --patch-file "$work/patch.json" >/dev/null
}

# read_pods: name and readiness of every pod that is not going, into pods and ready.
declare -A ready=()
read_pods() {
  local name going state
  kube get pods --selector "$selector" -o \
    'jsonpath={range .items[*]}{.metadata.name}|{.metadata.deletionTimestamp}|{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' \
    >"$work/pods" || return
  pods=() ready=()
  while IFS='|' read -r name going state; do
    [[ -n $name && -z $going ]] || continue
    pods+=("$name")
    ready[$name]=$state
  done <"$work/pods"
}

# look POD HASH: what the pod says of itself, into shown (the hash it runs, empty = no answer) and trial.
shown='' trial=''
look() {
  local text code
  text=$(in_pod "$1" status --json --expect "$2" 2>/dev/null </dev/null)
  code=$?
  text=${text//[[:space:]]/}
  shown='' trial=''
  # Degraded and unhealthy are about backends and not about this rollout: the hash is read, not the exit code alone.
  if [[ $text =~ \"running\":\{[^}]*\"sha256\":\"([0-9a-f]{64})\" ]]; then shown=${BASH_REMATCH[1]}; fi
  if ((code == 0)); then shown=$2; fi
  if [[ $text == *'"state":"trial'* ]]; then trial=yes; fi
}

# settled POD HASH SECONDS: it runs that hash, and no trial is open, within the time.
settled() {
  local end=$((SECONDS + $3))
  while :; do
    look "$1" "$2"
    [[ $shown != "$2" || -n $trial ]] || return 0
    ((SECONDS < end)) && [[ -z $stopped ]] || return 1
    sleep "$poll"
  done
}

reload() {
  patiently exec "$1" --container "$container" -- "$binary" reload --wait --timeout 4m --expect "$2" </dev/null
  local code=$?
  case $code in
    0) return 0 ;;
    1) complain "$1: refused, or not to be asked" ;;
    2) complain "$1: rolled back by its trial" ;;
    3) complain "$1: no outcome in time" ;;
    4) complain "$1: holdfast does not answer" ;;
    130) ;;
    *) complain "$1: reload ended with $code" ;;
  esac
  return "$code"
}

# restart: all pods anew, within the time that pods of this grace can need.
restart() {
  local count grace
  kube rollout restart "$workload" || return
  grace=$(kube get "$workload" -o 'jsonpath={.spec.template.spec.terminationGracePeriodSeconds}') || return
  count=${#pods[@]}
  if [[ ${1:-} == undo ]]; then
    # The controller of a StatefulSet waits for a broken pod to become ready before it replaces it: for ever.
    local pod
    read_pods && for pod in "${pods[@]}"; do
      [[ ${ready[$pod]} == True ]] || kube delete pod "$pod" --wait=false || return
    done
  fi
  patiently rollout status "$workload" --timeout "$(((count > 0 ? count : 1) * (${grace:-30} + 60)))s"
}

undo() {
  trap '' INT TERM HUP # kubectl inherits it: the way back is not interrupted
  stopped=''
  complain "going back to what was there"
  local pod good=yes
  patch_with "$backup" || patch_with "$backup" || return
  if [[ $mode == restart ]]; then
    restart undo || good=''
    read_pods || good=''
  else
    for pod in ${touched[@]+"${touched[@]}"}; do
      reload "$pod" "$old" || good=''
    done
  fi
  for pod in ${pods[@]+"${pods[@]}"}; do
    # One that ran something else before is not ours to mend.
    [[ ${before[$pod]:-$old} == "$old" ]] || continue
    settled "$pod" "$old" "$settle" || { complain "$pod does not show $old"; good=''; }
  done
  [[ -n $good ]]
}

finish() {
  local code=$?
  trap - EXIT
  if [[ -n $written && -z $deployed ]]; then
    code=1
    if undo; then
      complain "undone: everything is as before"
    else
      code=2 keep=yes
      complain "the undo failed. The text that was there: $backup"
      complain "write it back: kubectl -n $namespace create configmap $configmap --from-file=$key=$backup" \
        "--dry-run=client -o yaml | kubectl -n $namespace apply -f -"
      complain "then, in each pod: $binary reload --wait; or delete the pods that are not ready"
    fi
  fi
  [[ -n $keep ]] || rm -rf -- "$work"
  exit "$code"
}
trap finish EXIT

hash=$(sum "$config") || fail "cannot read $config"
cp -- "$config" "$work/new" || fail "cannot copy $config" # what is validated is what is written

say "1/5 Validating"
here=''
if command -v holdfast >/dev/null; then
  holdfast validate --portable --config "$config" || fail "not valid"
  here=yes
fi
read_pods || fail "cannot list the pods of $selector"
((${#pods[@]} > 0)) || [[ $mode == restart ]] || fail "no pods of $selector"
asked=''
for pod in ${pods[@]+"${pods[@]}"}; do
  checkpoint
  look "$pod" "$hash"
  before[$pod]=$shown
  if [[ -z $shown ]]; then
    [[ $mode == restart ]] || fail "$pod does not answer, so it cannot reload: mend it first, or use --mode restart"
  elif [[ -z $asked ]]; then
    asked=$pod
  fi
done
if [[ -n $asked ]]; then
  kube exec -i "$asked" --container "$container" -- "$binary" validate --here --config=- <"$work/new" ||
    fail "$asked would not run it"
elif [[ -z $here ]]; then
  fail "no pod answers and holdfast is not on the PATH: nobody can validate $config"
fi
checkpoint

say "2/5 Backing up"
# One answer, so that text and version belong together.
kube get configmap "$configmap" -o "jsonpath={.metadata.resourceVersion}{\"\\n\"}{.data.${key//./\\.}}" >"$work/map" ||
  fail "cannot read configmap $configmap"
IFS= read -r version <"$work/map" || fail "configmap $configmap has no version"
tail -n +2 "$work/map" >"$backup" || fail "cannot keep the backup"
[[ -s $backup ]] || fail "configmap $configmap has no text under $key"
old=$(sum "$backup") || fail "cannot read the backup"
checkpoint

say "3/5 Writing $configmap ($key, sha256 $hash)"
if [[ $hash == "$old" ]]; then
  say "    it is there already"
else
  written=yes # from here on a doubt is undone; writing back what is there harms nobody
  if ! patch_with "$work/new" "$version"; then
    # Refused whole, or the answer was lost: look which.
    if kube get configmap "$configmap" -o "jsonpath={.data.${key//./\\.}}" >"$work/now" && [[ $(sum "$work/now") != "$hash" ]]; then
      written=''
      fail "not written: somebody else changed $configmap meanwhile, or it may not be changed"
    fi
    fail "not known whether it was written"
  fi
fi
checkpoint

if [[ $mode == reload ]]; then
  say "4/5 Reloading ${#pods[@]} pods, one by one"
  for pod in "${pods[@]}"; do
    checkpoint
    touched+=("$pod")
    reload "$pod" "$hash" || { checkpoint; fail "$pod did not take it"; }
    say "    $pod"
  done
else
  say "4/5 Restarting $workload"
  restart || { checkpoint; fail "not all pods became ready"; }
  read_pods || fail "cannot list the pods of $selector"
fi

say "5/5 Checking"
for pod in ${pods[@]+"${pods[@]}"}; do
  checkpoint
  # Ready is not enough: a pod that boots on the last good text is ready, and shows that text's hash.
  settled "$pod" "$hash" "$settle" || { checkpoint; fail "$pod runs ${shown:-nothing}, not $hash"; }
done
deployed=yes
say "Deployed: $hash runs in ${#pods[@]} pods."
