// The types of docs/events.d.ts, used as in a receiver. The compiler checks it; nothing runs it.
import type { Event, JobMissing } from "./events";

export function summary(event: Event): string {
  switch (event.type) {
    case "job.succeeded":
      return `${event.data.job.name} cost ${event.data.job.job_cost?.toFixed(4)}`;
    case "job.failed":
      return String(event.data.job.failure_reason?.["message"]);
    case "poller.sink_disabled":
      return event.data.reason.toUpperCase();
    default:
      return event.data.deployment;
  }
}

export function isCertain(event: Event): boolean {
  return event.type === "job.succeeded" && event.data.final;
}

// Each line after @ts-expect-error must be rejected.

export function neverObserved(event: JobMissing): string | null {
  // @ts-expect-error - a job that was never observed has no name
  return event.data.job.name;
}

export function unchecked(event: Event): string {
  // @ts-expect-error - an event about the daemon has no job
  return event.data.job.job_id;
}

export function misspelt(event: Event): boolean {
  // @ts-expect-error - there is no such type
  return event.type === "job.finished";
}

export function nullable(event: Event): number {
  // @ts-expect-error - the cost can be null
  return event.type === "job.succeeded" ? event.data.job.job_cost : 0;
}
