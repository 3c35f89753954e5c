/** Calendar dates as text. EN 16931 dates have no time and no zone. */

const DATE = /^([0-9]{4})-([0-9]{2})-([0-9]{2})$/
const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** Whether a text is `YYYY-MM-DD` and names a day of the Gregorian calendar. */
export function isCalendarDate(text: unknown): text is string {
  if (typeof text !== 'string') return false
  const match = DATE.exec(text)
  if (match === null) return false
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])]
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
  const days = month === 2 && leap ? 29 : DAYS[month - 1]
  return days !== undefined && day >= 1 && day <= days
}
