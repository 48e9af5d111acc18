// The types of events, written by `make generate` from poller/event.schema.json. Later versions may
// add fields and types. Times are RFC 3339 in UTC, durations are seconds, costs are US dollars.

/**
 * The job, with the API's field names. A field is null if the API has no value, or one of a wrong
 * type. Prompts and output schemas are never included.
 */
export interface Job {
  /** The job's ID in the API. */
  job_id: string;
  /** The job's name. */
  name: string | null;
  /** The job's description. */
  description: string | null;
  /** The model. */
  model: string | null;
  /** The status in capitals, or the API's own text if the status is unknown. */
  status: string;
  /** The priority, 0 or 1. */
  job_priority: number | null;
  /** The ID of the input dataset. */
  dataset_id: string | null;
  /** The number of input rows. */
  num_rows: number | null;
  /** The number of input tokens. */
  input_tokens: number | null;
  /** The number of output tokens. */
  output_tokens: number | null;
  /** The cost in US dollars; null until the API has calculated it. */
  job_cost: number | null;
  /** The estimated cost in US dollars. */
  cost_estimate: number | null;
  /**
   * The reason of a failure, usually with a text in message. A reason that is too large is
   * shortened to {message, truncated: true}.
   */
  failure_reason: Record<string, unknown> | null;
  /** The time of creation. */
  datetime_created: string | null;
  /** The time of the start. */
  datetime_started: string | null;
  /** The time of the end. */
  datetime_completed: string | null;
}

/** A job that was never observed. */
export interface UnobservedJob {
  /** The job's ID in the API. */
  job_id: string;
}

/**
 * How late the change was detected, by the API's clock. Its responses show that clock to about half
 * a second.
 */
export interface Detection {
  /**
   * The start of the last poll before the change was detected; null if there was none since the
   * poller started.
   */
  previous_poll_at: string | null;
  /**
   * Seconds from when the API could show the change to its detection. The wait for the last fields
   * of an end comes later and is not included. Null if the API has no time of the change.
   */
  lag_seconds: number | null;
  /** Seconds from the previous poll to the detection: the upper bound of the lag. */
  lag_max_seconds: number | null;
  /**
   * Seconds for which the API did not show the change, as far as the previous poll shows. Null
   * without that poll or the API's time of the change.
   */
  visibility_delay_seconds: number | null;
}

/** An event in a digest. */
export interface DigestLine {
  /** The ID of the event. */
  id: string;
  /** The type of the event. */
  type: string;
  /** The job's ID in the API. */
  job_id: string;
  /** The job's name, shortened if it is long. */
  name: string | null;
  /** The cost in US dollars; null until the API has calculated it. */
  job_cost: number | null;
  /**
   * Seconds from datetime_started to datetime_completed; null if either is missing or they run
   * backwards.
   */
  run_seconds: number | null;
  /** Why the job failed, shortened if it is long. */
  reason: string | null;
}

/** The jobs of one model. */
export interface ModelCosts {
  /** The model, shortened if it is long. */
  model: string | null;
  /** The number of jobs that ended. */
  jobs: number;
  /** Their exact cost in US dollars, as a decimal number; null if none is known. */
  cost_usd: string | null;
  /** The number of jobs whose cost is not known; cost_usd lacks them. */
  cost_unknown: number;
}

/** A job in a report. */
export interface ReportedJob {
  /** The job's ID in the API. */
  job_id: string;
  /** The job's name, shortened if it is long. */
  name: string | null;
  /** The model, shortened if it is long. */
  model: string | null;
  /** The status in capitals. */
  status: string;
  /** Seconds for which the job ran, or in unchanged, since its last change. */
  seconds: number;
}

/** A sink that needs attention. */
export interface ReportedSink {
  /** The name of the sink. */
  sink: string;
  /** The number of events that wait for delivery. */
  pending: number;
  /** The number of dead letters. */
  dead: number;
  /** True if the sink is disabled and gets no events. */
  is_disabled: boolean;
}

/** How long an overdue job has been in its phase, and how long jobs like it are. */
export interface Overdue {
  /** The phase: queued or running. */
  phase: string;
  /** Seconds that the job has been in the phase. */
  elapsed_seconds: number;
  /** Seconds from which it is overdue. */
  threshold_seconds: number;
  /**
   * Seconds in which 95 % of the jobs like it get through the phase; null with fewer than 20 of
   * them.
   */
  expected_seconds: number | null;
  /** The ended jobs that expected_seconds is from: their class and how many there are. */
  basis: Record<string, unknown> | null;
}

/** The data of an event about a job. Later versions may add keys: ignore unknown keys. */
export interface JobData {
  /** The time of observation, by the clock of the poller. */
  observed_at: string;
  /** The host of the API. */
  deployment: string;
  /** True in an event of an operator's test, whose job does not exist; otherwise left out. */
  test?: boolean;
  job: Job | UnobservedJob;
  /**
   * The most advanced status observed before; null if there was none. A status that the job passed
   * between two polls is left out.
   */
  previous_status: "SUBMITTED" | "PENDING" | "QUEUED" | "STARTING" | "RUNNING" | "CANCELLING" | "SUCCEEDED" | "FAILED" | "CANCELLED" | null;
  /** The number of this event among the events of the job, from 1. */
  sequence: number;
  /**
   * For an ended job: whether the API had added datetime_completed, job_cost, the tokens and, if it
   * failed, failure_reason. After an end with false, job.settled follows if the API adds what is
   * missing within seven days. Null for other events.
   */
  final: boolean | null;
  /**
   * Seconds from datetime_created to datetime_started; null if either is missing or they run
   * backwards.
   */
  queue_seconds: number | null;
  /**
   * Seconds from datetime_started to datetime_completed; null if either is missing or they run
   * backwards.
   */
  run_seconds: number | null;
  /** How late a start or an end was detected; null for other events. */
  detection: Detection | null;
  /** How long the job has been in its phase; left out of other events than job.overdue. */
  overdue?: Overdue;
  /** True in the event of an end that job.overdue came before; otherwise left out. */
  was_overdue?: boolean;
}

/**
 * The data of an event about the poller itself. Later versions may add keys: ignore unknown keys.
 */
export interface PollerData {
  /** The time of observation, by the clock of the poller. */
  observed_at: string;
  /** The host of the API. */
  deployment: string;
  /** True in an event of an operator's test, whose job does not exist; otherwise left out. */
  test?: boolean;
  /** What was rejected, in one line. */
  reason?: string;
  /** The name of the sink. */
  sink?: string;
}

/** The data of a digest. Later versions may add keys: ignore unknown keys. */
export interface DigestData {
  /** The time of observation, by the clock of the poller. */
  observed_at: string;
  /** The host of the API. */
  deployment: string;
  /** True in an event of an operator's test, whose job does not exist; otherwise left out. */
  test?: boolean;
  /** The name of the sink. */
  sink: string;
  /** The time of the first event. */
  since: string;
  /** The number of events of each type. */
  counts: Record<string, unknown>;
  /** The exact cost of the ended jobs in US dollars, as a decimal number; null if none is known. */
  cost_usd: string | null;
  /** The number of ended jobs whose cost is not known; cost_usd lacks them. */
  cost_unknown: number;
  /** The first of the events, in the order of recording. */
  events: DigestLine[];
}

/** The data of a daily report. Later versions may add keys: ignore unknown keys. */
export interface ReportData {
  /** The time of observation, by the clock of the poller. */
  observed_at: string;
  /** The host of the API. */
  deployment: string;
  /** True in an event of an operator's test, whose job does not exist; otherwise left out. */
  test?: boolean;
  /** The day on which the report was due, in the time zone of the poller. */
  date: string;
  /** The start of the period: the time of the report of the day before. */
  since: string;
  /** The end of the period: the time at which the report was due. */
  until: string;
  /** The number of jobs whose end with SUCCEEDED was recorded in the period. */
  succeeded: number;
  /** The number of jobs whose end with FAILED was recorded in the period. */
  failed: number;
  /** The number of jobs whose end with CANCELLED was recorded in the period. */
  cancelled: number;
  /** The exact cost of these jobs in US dollars, as a decimal number; null if none is known. */
  cost_usd: string | null;
  /** The number of these jobs whose cost is not known; cost_usd lacks them. */
  cost_unknown: number;
  /** The models of these jobs, the most expensive first. */
  models: ModelCosts[];
  /** The number of further models. */
  models_omitted: number;
  /** Those of these jobs that ran longest. */
  slowest: ReportedJob[];
  /** The watched jobs that have not ended, and have not changed for longest, an hour at least. */
  unchanged: ReportedJob[];
  /** The number of watched jobs that the API does not know. */
  missing: number;
  /** The first of their IDs. */
  missing_ids: string[];
  /** The sinks that have dead letters or are disabled. */
  sinks: ReportedSink[];
}

/** The data of an event about a budget. Later versions may add keys: ignore unknown keys. */
export interface BudgetData {
  /** The time of observation, by the clock of the poller. */
  observed_at: string;
  /** The host of the API. */
  deployment: string;
  /** True in an event of an operator's test, whose job does not exist; otherwise left out. */
  test?: boolean;
  /** Which budget it is: daily or monthly. */
  budget: string;
  /** The day or the month, in the time zone of the poller. */
  period: string;
  /** The start of the period. */
  period_start: string;
  /** The end of the period. */
  period_end: string;
  /** The patterns of the models whose jobs count; empty for all models. */
  model_patterns: string[];
  /** The budget in US dollars, as a decimal number. */
  limit_usd: string;
  /** The threshold that is reached, in percent of the budget. */
  threshold_percent: number;
  /** The exact sum of the known costs of the jobs that ended in the period, as a decimal number. */
  spent_usd: string;
  /** The number of jobs that ended in the period. */
  jobs: number;
  /** The number of these jobs whose cost is not known; spent_usd lacks them. */
  cost_unknown: number;
  /**
   * The sum of the estimates of the watched jobs that have not ended, as a decimal number; 0 if the
   * period is over.
   */
  committed_usd: string;
  /** The number of these jobs without an estimate; committed_usd lacks them. */
  estimate_unknown: number;
  /** The sum of spent_usd and committed_usd, as a decimal number. */
  projected_usd: string;
}

/** The job started: it was first observed running. */
export interface JobStarted {
  type: "job.started";
  timestamp: string;
  data: JobData & { job: Job; final: null };
}

/** The job succeeded. */
export interface JobSucceeded {
  type: "job.succeeded";
  timestamp: string;
  data: JobData & { job: Job; final: boolean };
}

/** The job failed; job.failure_reason has the reason if the API has one. */
export interface JobFailed {
  type: "job.failed";
  timestamp: string;
  data: JobData & { job: Job; final: boolean };
}

/** The job was cancelled. */
export interface JobCancelled {
  type: "job.cancelled";
  timestamp: string;
  data: JobData & { job: Job; final: boolean };
}

/**
 * The API has added fields that were missing when the end of the job was reported. At most once for
 * each job.
 */
export interface JobSettled {
  type: "job.settled";
  timestamp: string;
  data: JobData & { job: Job; final: boolean };
}

/**
 * The API has not known the job for some time. job is the job as last observed, or only its ID if
 * it was never observed.
 */
export interface JobMissing {
  type: "job.missing";
  timestamp: string;
  data: JobData & { job: Job | UnobservedJob; final: null };
}

/** The API knows a missing job again. */
export interface JobFound {
  type: "job.found";
  timestamp: string;
  data: JobData & { job: Job; final: null };
}

/** The job seems to have ended, but with an unknown status. */
export interface JobUnrecognised {
  type: "job.unrecognised";
  timestamp: string;
  data: JobData & { job: Job; final: null };
}

/**
 * The job has been queued, or has run, for too long. At most once for each job and phase, and never
 * after its end was observed.
 */
export interface JobOverdue {
  type: "job.overdue";
  timestamp: string;
  data: JobData & { job: Job; final: null; overdue: Overdue };
}

/**
 * The job has ended and cost more than it was estimated to. The cost is more than
 * POLLER_COST_OVER_ESTIMATE times the estimate, and a cent more at least. At most once for each
 * job.
 */
export interface JobCostOverEstimate {
  type: "job.cost_over_estimate";
  timestamp: string;
  data: JobData & { job: Job; final: null };
}

/** The API rejected the API key: no job can be polled until the key is corrected. */
export interface PollerAuthFailed {
  type: "poller.auth_failed";
  timestamp: string;
  data: PollerData & { reason: string };
}

/** The API accepts the API key again. */
export interface PollerAuthRecovered {
  type: "poller.auth_recovered";
  timestamp: string;
  data: PollerData;
}

/** A sink was disabled; its events are kept until it is enabled. */
export interface PollerSinkDisabled {
  type: "poller.sink_disabled";
  timestamp: string;
  data: PollerData & { sink: string; reason: string };
}

/** The report of a day: what ended and what it cost, and what needs attention. */
export interface ReportDaily {
  type: "report.daily";
  timestamp: string;
  data: ReportData;
}

/** A threshold of a budget is reached. Once for each period, budget and threshold. */
export interface BudgetCrossed {
  type: "budget.crossed";
  timestamp: string;
  data: BudgetData;
}

/** A test of a sink by an operator. */
export interface PollerTest {
  type: "poller.test";
  timestamp: string;
  data: PollerData & { sink: string };
}

/**
 * A digest: the message that a sink gets in place of several events. Only a sink with digests gets
 * it.
 */
export interface ReportDigest {
  type: "report.digest";
  timestamp: string;
  data: DigestData;
}

export type Event =
  | JobStarted
  | JobSucceeded
  | JobFailed
  | JobCancelled
  | JobSettled
  | JobMissing
  | JobFound
  | JobUnrecognised
  | JobOverdue
  | JobCostOverEstimate
  | PollerAuthFailed
  | PollerAuthRecovered
  | PollerSinkDisabled
  | ReportDaily
  | BudgetCrossed
  | PollerTest
  | ReportDigest;
