/* Runs one task per item at the same time and waits for all: for work that is mostly waiting for
 * the disk. The first item runs on the caller's thread, so one item costs no thread; when a thread
 * cannot be had, its item runs on the caller's too. No Python here: call it without the GIL.
 */
#ifndef LJ_TOGETHER_H
#define LJ_TOGETHER_H
#include <pthread.h>
#include <stddef.h>

#define LJ_TOGETHER_MAX 256
#define LJ_TOGETHER_STACK (512 * 1024) /* bytes; SQLite's own calls need less than 64 KiB */

typedef void *(*LjTask)(void *);

static inline void lj_together(LjTask task, void **items, int count) {
  pthread_t threads[LJ_TOGETHER_MAX];
  pthread_attr_t attributes;
  int started = 0, i;
  int can_start = count > 1 && count <= LJ_TOGETHER_MAX && pthread_attr_init(&attributes) == 0;
  if (can_start) {
    pthread_attr_setstacksize(&attributes, LJ_TOGETHER_STACK);
    while (started + 1 < count &&
           pthread_create(&threads[started], &attributes, task, items[started + 1]) == 0)
      started++;
    pthread_attr_destroy(&attributes);
  }
  if (count > 0) task(items[0]);
  for (i = started + 1; i < count; i++) task(items[i]);
  for (i = 0; i < started; i++) pthread_join(threads[i], NULL);
}
#endif
